# FE: only the decoder trains; the encoder stays as the source left it, batch statistics too.
_base_ = ["./td-hm_res50_ft_landmarks-256x256.py"]
model = dict(frozen=["backbone"])
