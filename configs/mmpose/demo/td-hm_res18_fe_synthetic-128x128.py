# FE: only the decoder trains; the encoder stays the source's, including its batch statistics.
_base_ = ["./td-hm_res18_ft_synthetic-128x128.py"]
model = dict(frozen=["backbone"])
