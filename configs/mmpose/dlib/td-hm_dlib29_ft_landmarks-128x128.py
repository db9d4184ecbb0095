# FT from dlib's face recognition ResNet-29. It has no batch norm: see docs/real-data.md for the learning rate.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/schedule.py",
    "../_base_/landmarks_128x128.py",
    "../_base_/simplebaseline.py",
    "../_base_/terms.py",
]
source = "data/sources/dlib_face_resnet29_128d.pth"
# the published file goes on to an embedding, which the dense encoder has not
beyond_encoder = ["fc.", "blocks.256_down_out."]
encoder = dict(type="ModuleBackbone", module="xtask_reg.sources:dlib_resnet29_dense")
teacher = dict(type="FrozenTeacher", backbone=encoder, checkpoint=source, ignore=beyond_encoder)
model = dict(
    data_preprocessor=dict(mean=[122.782, 117.001, 104.298], std=[255.0, 255.0, 255.0]),
    backbone=dict(**encoder, init_cfg=dict(type="SourceWeights", checkpoint=source, ignore=beyond_encoder)),
    head=dict(in_channels=256),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
