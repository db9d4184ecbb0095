# A decoder that reads the maps of all stages, as MMPose's configs with HRNetV2 do: they are enlarged to the finest and
# concatenated; a 1x1 and a 3x3 convolution follow. For head.in_channels, add up the channels of the stages.
multiscale_neck = dict(type="FeatureMapProcessor", concat=True)
multiscale_head = dict(
    in_channels=256 + 512 + 1024 + 2048,
    deconv_out_channels=None,
    conv_out_channels=(256, 256),
    conv_kernel_sizes=(1, 3),
)
