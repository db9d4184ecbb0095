# The paper's two constraints at a ResNet's last stage, with lambda = 0.002 beside the mean L_R and temperature mu = 2;
# and the two attention constraints of its successor (arXiv 2109.05485), whose weights and formulas are ours.
loss_cd = dict(
    name="loss_cd",
    loss=dict(type="SoftmaxL2Loss", temperature=2.0, reduction="mean"),
    student="backbone.layer4",
    teacher="classifier",
    student_connector=dict(type="RetainedClassifier", trainable=True),
    weight=0.002,
)
loss_ed = dict(
    name="loss_ed",
    loss=dict(type="CosineAlignmentLoss", over="flatten", reduction="mean"),
    student="backbone.layer4",
    teacher="backbone.layer4",
    weight=0.002,
)
loss_sa = dict(
    name="loss_sa",
    loss=dict(type="AttentionTransferLoss", power=2.0, reduction="mean"),
    student="backbone.layer4",
    teacher="backbone.layer4",
    weight=0.002,
)
loss_ca = dict(
    name="loss_ca",
    loss=dict(type="ChannelAttentionLoss", power=2.0, reduction="mean"),
    student="backbone.layer4",
    teacher="backbone.layer4",
    weight=0.002,
)
# measures the similarity to the source at each stage of the encoder; `xtask-reg plot-source` plots it from the log
monitor = dict(every=50)
