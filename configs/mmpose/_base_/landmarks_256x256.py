# Landmarks in COCO-style files: data_root/{train,val,test}.json, images beside them, one face filling each box.
dataset_type = "LandmarkDataset"
data_mode = "topdown"
data_root = "data/landmarks"
codec = dict(type="ExactHeatmap", sigma=1.5, stride=4, decode="argmax")
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.0),
    dict(type="RandomFlip", direction="horizontal", prob=0.5),
    # it scales the box, so these are image scales in [0.8, 1.2]
    dict(type="RandomBBoxTransform", shift_prob=0.0, rotate_prob=0.0, scale_factor=(1 / 1.2, 1 / 0.8), scale_prob=1.0),
    dict(type="TopdownAffine", input_size=(256, 256)),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.0),
    dict(type="TopdownAffine", input_size=(256, 256)),
    dict(type="PackPoseInputs"),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="stacked_collate"),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file="train.json", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file="val.json", test_mode=True, pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=16,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(type=dataset_type, data_root=data_root, ann_file="test.json", test_mode=True, pipeline=test_pipeline),
)
val_evaluator = dict(type="LandmarkMetric", space="heatmap", reduction="mean_distance", threshold=1.2)
test_evaluator = val_evaluator
