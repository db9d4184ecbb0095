# FT from dlib's face recognition ResNet-29. It has no batch norm: see docs/real-data.md for the learning rate.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/schedule.py",
    "../_base_/landmarks_128x128.py",
    "../_base_/simplebaseline.py",
    "../_base_/terms.py",
]
source = dict(
    type="SourceWeights",
    checkpoint="data/sources/dlib_face_resnet29_128d.pth",
    # the published network ends in an embedding, which the dense encoder lacks
    ignore=["fc.", "blocks.256_down_out."],
)
model = dict(
    data_preprocessor=dict(mean=[122.782, 117.001, 104.298], std=[255.0, 255.0, 255.0]),
    backbone=dict(type="ModuleBackbone", module="xtask_reg.sources:dlib_resnet29_dense", init_cfg=source),
    head=dict(in_channels=256),
)
teacher = dict(type="FrozenTeacher")
optim_wrapper = dict(optimizer=dict(lr=1e-4))
