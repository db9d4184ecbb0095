# FT: SimpleBaseline whose ResNet-50 starts as the source's encoder; everything trains.
_base_ = [
    "_base_/runtime.py",
    "_base_/schedule.py",
    "_base_/landmarks_256x256.py",
    "_base_/simplebaseline.py",
    "_base_/terms.py",
]
source = "data/sources/vggface2_resnet50.safetensors"
encoder = dict(type="ResNet", depth=50, style="caffe", zero_init_residual=False)
teacher = dict(
    type="FrozenTeacher", backbone=encoder, classifier=dict(in_channels=2048, num_classes=8631), checkpoint=source
)
model = dict(
    # what the VGGFace2 networks were trained with: RGB, 0..255, means subtracted, not divided
    data_preprocessor=dict(mean=[131.0912, 103.8827, 91.4953], std=[1.0, 1.0, 1.0]),
    backbone=dict(**encoder, init_cfg=dict(type="SourceWeights", checkpoint=source)),
)
