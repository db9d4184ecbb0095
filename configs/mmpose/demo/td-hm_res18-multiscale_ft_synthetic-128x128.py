# FT with a decoder that reads the maps of all stages.
_base_ = ["./td-hm_res18_ft_synthetic-128x128.py", "../_base_/multiscale.py"]
head = _base_.multiscale_head
head.in_channels = 32 + 64 + 128 + 256
model = dict(backbone=dict(out_indices=(0, 1, 2, 3)), neck=_base_.multiscale_neck, head=head)
