# Stacked Hourglass. On the command line, more stacks are model.backbone.num_stacks and model.head.num_stages alike.
stacks = 1
model = dict(
    type="TopdownPoseEstimator",
    data_preprocessor=dict(
        type="PoseDataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    backbone=dict(type="HourglassNet", num_stacks=stacks),
    head=dict(
        type="CPMHead",
        in_channels=256,
        out_channels=14,
        num_stages=stacks,
        deconv_out_channels=None,
        loss=dict(type="HeatmapMSELoss", reduction="mean", use_target_weight=True),
        decoder=dict(type="ExactHeatmap", sigma=1.5, stride=4, decode="argmax"),
    ),
    test_cfg=dict(flip_test=False, shift_heatmap=True),  # the shift is read where flip_test is True
)
# MMPose's Hourglass of one stack has a block that it never calls, which distributed training must put up with
find_unused_parameters = True
