# FE: only the decoder trains; the encoder stays as the source left it, batch statistics too.
_base_ = ["./td-hm_res18_ft_synthetic-128x128.py"]
model = dict(frozen=["backbone"])
