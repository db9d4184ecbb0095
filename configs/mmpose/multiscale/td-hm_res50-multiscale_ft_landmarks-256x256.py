# FT with a decoder that reads the maps of all stages.
_base_ = ["../td-hm_res50_ft_landmarks-256x256.py", "../_base_/multiscale.py"]
model = dict(backbone=dict(out_indices=(0, 1, 2, 3)), neck=_base_.multiscale_neck, head=_base_.multiscale_head)
