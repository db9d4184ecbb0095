# SimpleBaseline: an encoder, three deconvolutions of 256 channels (the defaults of HeatmapHead), K heatmaps.
model = dict(
    type="CrossTaskTopdownPoseEstimator",
    data_preprocessor=dict(
        type="PoseDataPreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
    ),
    head=dict(
        type="HeatmapHead",
        in_channels=2048,
        out_channels=14,
        loss=dict(type="HeatmapMSELoss", reduction="mean", use_target_weight=True),
        decoder=dict(type="ExactHeatmap", sigma=1.5, stride=4, decode="argmax"),
    ),
    train_cfg=dict(compute_acc=False),
    test_cfg=dict(flip_test=False, shift_heatmap=True),  # shift_heatmap matters only with flip_test=True
)
