# FTP: the encoder is frozen except for its last stage (conv5_x).
_base_ = ["./td-hm_res50_ft_landmarks-256x256.py"]
model = dict(frozen=["backbone"], frozen_but=["backbone.layer4"])
