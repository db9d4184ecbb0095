# CTD-CD: FT and the distance between softened source predictions (L_CD).
_base_ = ["./td-hm_res18_ft_synthetic-128x128.py"]
model = dict(
    teacher=dict(**_base_.teacher, classifier=_base_.classifier), terms=[_base_.loss_cd], monitor=_base_.monitor
)
