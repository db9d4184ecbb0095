"""Each framework has its room here, and is imported nowhere else."""
