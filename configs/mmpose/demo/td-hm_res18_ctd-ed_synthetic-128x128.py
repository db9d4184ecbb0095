# CTD-ED: FT and the cosine between encoder features (L_ED).
_base_ = ["./td-hm_res18_ft_synthetic-128x128.py"]
model = dict(teacher=_base_.teacher, terms=[_base_.loss_ed], monitor=_base_.monitor)
