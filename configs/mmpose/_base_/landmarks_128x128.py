# As landmarks_256x256.py, at 128 px.
_base_ = ["./landmarks_256x256.py"]
train_pipeline = _base_.train_pipeline
train_pipeline[4].input_size = (128, 128)
test_pipeline = _base_.test_pipeline
test_pipeline[2].input_size = (128, 128)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
