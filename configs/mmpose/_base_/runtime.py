# What every run shares: the plugin, MMEngine's hooks, logging.
custom_imports = dict(imports=["xtask_reg.integrations.mmpose"], allow_failed_imports=False)
default_scope = "mmpose"
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=10),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # two, since MMEngine deletes the oldest before it writes the next, and a run may be killed in between
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2, save_best="landmark/ME", rule="less"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="PoseVisualizationHook", enable=False),
)
custom_hooks = [dict(type="SyncTrainedBuffersHook"), dict(type="CrossTaskHook"), dict(type="EpochSeedHook")]
env_cfg = dict(
    cudnn_benchmark=False, mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0), dist_cfg=dict(backend="nccl")
)
vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="PoseLocalVisualizer", vis_backends=vis_backends, name="visualizer")
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True, num_digits=6)
randomness = dict(seed=0)
