# FT from timm's EfficientNet-Lite0 (ImageNet). Its batch norms keep the source's statistics, since batches are small.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/schedule.py",
    "../_base_/landmarks_128x128.py",
    "../_base_/simplebaseline.py",
    "../_base_/terms.py",
]
source = dict(
    type="SourceWeights",
    checkpoint="data/sources/efficientnet_lite0.safetensors",
    ignore=["conv_head.", "bn2.", "classifier."],  # after the features
)
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),  # timm's 0.5, not ImageNet's usual mean
    backbone=dict(type="ModuleBackbone", module="timm/tf_efficientnet_lite0", norm_eval=True, init_cfg=source),
    head=dict(in_channels=320),
)
teacher = dict(type="FrozenTeacher")
optim_wrapper = dict(optimizer=dict(lr=1e-4))
