# FT: SimpleBaseline whose ResNet-50 starts as the source's encoder; everything trains.
_base_ = [
    "_base_/runtime.py",
    "_base_/schedule.py",
    "_base_/landmarks_256x256.py",
    "_base_/simplebaseline.py",
    "_base_/terms.py",
]
source = dict(type="SourceWeights", checkpoint="data/sources/vggface2_resnet50.safetensors")
model = dict(
    # as the VGGFace2 networks were trained: RGB, 0..255, mean subtracted, no division
    data_preprocessor=dict(mean=[131.0912, 103.8827, 91.4953], std=[1.0, 1.0, 1.0]),
    backbone=dict(type="CaffeResNet", depth=50, norm_eval=False, init_cfg=source),
)
# CTD-ED: the network that the student starts from; CTD-CD and CTD-Com: the same with its classifier
teacher = dict(type="FrozenTeacher")
classifier = dict(in_channels=2048, num_classes=8631, window=None)
