# CTD-ED: FT and the cosine between encoder features (L_ED), here at the last feature map of the dlib network.
_base_ = ["./td-hm_dlib29_ft_landmarks-128x128.py"]
loss_ed = _base_.loss_ed
loss_ed.student = "backbone.net"
loss_ed.teacher = "backbone.net"
model = dict(teacher=_base_.teacher, terms=[loss_ed], monitor=_base_.monitor)
