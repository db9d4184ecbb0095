"""What ``benchmarks/step_cost.py`` and ``benchmarks/step_scale.py`` are made of."""
