# FT with a decoder that reads the maps of all stages.
_base_ = ["./td-hm_dlib29_ft_landmarks-128x128.py", "../_base_/multiscale.py"]
head = _base_.multiscale_head
head.in_channels = 32 + 64 + 128 + 256
model = dict(backbone=dict(kwargs=dict(every_stage=True)), neck=_base_.multiscale_neck, head=head)
