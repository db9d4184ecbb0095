# FT with a decoder that reads the maps of all stages, enlarged to the finest and concatenated (MMPose's for HRNetV2),
# instead of the last map alone.
_base_ = ["./td-hm_dlib29_ft_landmarks-128x128.py"]
model = dict(
    backbone=dict(kwargs=dict(every_stage=True)),
    neck=dict(type="FeatureMapProcessor", concat=True),
    head=dict(
        in_channels=32 + 64 + 128 + 256,
        deconv_out_channels=None,
        conv_out_channels=(256, 256),
        conv_kernel_sizes=(1, 3),
    ),
)
