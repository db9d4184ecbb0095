# FE with a decoder that reads the maps of all stages: only the decoder trains, so the source's task is kept entirely.
_base_ = ["./td-hm_res50-multiscale_ft_landmarks-256x256.py"]
model = dict(frozen=["backbone"])
