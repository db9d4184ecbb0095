# CTD-CD: FT and the distance between softened source predictions (L_CD).
_base_ = ["./td-hm_res50_ft_landmarks-256x256.py"]
model = dict(
    teacher=dict(**_base_.teacher, classifier=_base_.classifier), terms=[_base_.loss_cd], monitor=_base_.monitor
)
