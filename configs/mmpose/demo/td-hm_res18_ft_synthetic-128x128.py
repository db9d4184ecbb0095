# FT of the demonstration: a narrow ResNet-18 that learned to recognise synthetic people.
_base_ = [
    "../_base_/runtime.py",
    "../_base_/schedule.py",
    "../_base_/landmarks_128x128.py",
    "../_base_/simplebaseline.py",
    "../_base_/terms.py",
]
source = dict(type="SourceWeights", checkpoint="runs/demo/source/source.safetensors")
model = dict(
    backbone=dict(type="ResNet", depth=18, base_channels=32, zero_init_residual=False, init_cfg=source),
    head=dict(in_channels=256, deconv_out_channels=(64, 64, 64)),
)
# CTD-ED: the network that the student starts from; CTD-CD and CTD-Com: the same with its classifier
teacher = dict(type="FrozenTeacher")
classifier = dict(in_channels=256, num_classes=40)
train_cfg = dict(max_epochs=30, val_interval=10)
train_dataloader = dict(batch_size=4)
