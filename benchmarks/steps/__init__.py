"""The parts of ``benchmarks/step_cost.py``, ``step_scale.py``, ``job_cost.py`` and ``loader_cost.py``."""
