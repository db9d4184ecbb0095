# CTD-Com and the attention constraints of the follow-up paper (arXiv 2109.05485), of which only the abstract was read.
_base_ = ["./td-hm_res50_ft_landmarks-256x256.py"]
model = dict(
    teacher=dict(**_base_.teacher, classifier=_base_.classifier),
    terms=[_base_.loss_cd, _base_.loss_ed, _base_.loss_sa, _base_.loss_ca],
    monitor=_base_.monitor,
)
