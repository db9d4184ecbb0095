# CTD-ED: FT and the cosine between encoder features (L_ED), here at timm's last stage.
_base_ = ["./td-hm_efficientnet-lite0_ft_landmarks-128x128.py"]
loss_ed = _base_.loss_ed
loss_ed.student = "backbone.net.blocks.6"
loss_ed.teacher = "backbone.net.blocks.6"
model = dict(teacher=_base_.teacher, terms=[loss_ed], monitor=_base_.monitor)
