# The paper's schedule: Adam at 1e-3, decayed by a polynomial down to the last iteration.
train_cfg = dict(by_epoch=True, max_epochs=150, val_interval=10)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type="Adam", lr=1e-3))
# without `end`, MMEngine uses max_epochs
param_scheduler = [dict(type="PolyLR", power=0.9, by_epoch=True, convert_to_iter_based=True)]
