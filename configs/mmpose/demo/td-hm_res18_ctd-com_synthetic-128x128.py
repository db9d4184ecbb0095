# CTD-Com: FT with both constraints.
_base_ = ["./td-hm_res18_ft_synthetic-128x128.py"]
model = dict(
    teacher=dict(**_base_.teacher, classifier=_base_.classifier),
    terms=[_base_.loss_cd, _base_.loss_ed],
    monitor=_base_.monitor,
)
