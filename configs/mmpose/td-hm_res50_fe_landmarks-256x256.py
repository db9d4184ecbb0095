# FE: only the decoder trains; the encoder stays the source's, including its batch statistics.
_base_ = ["./td-hm_res50_ft_landmarks-256x256.py"]
model = dict(frozen=["backbone"])
