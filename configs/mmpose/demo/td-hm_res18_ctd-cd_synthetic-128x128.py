# CTD-CD: FT and the distance between softened source predictions (L_CD).
_base_ = ["./td-hm_res18_ft_synthetic-128x128.py"]
model = dict(teacher=_base_.teacher, terms=[_base_.loss_cd])
