# Stacked Hourglass. For more stacks, set model.backbone.num_stacks and model.head.num_stages to the same number.
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
    test_cfg=dict(flip_test=False, shift_heatmap=True),  # shift_heatmap matters only with flip_test=True
)
# MMPose's Hourglass of one stack has a block that it never calls, which distributed training must tolerate
find_unused_parameters = True
