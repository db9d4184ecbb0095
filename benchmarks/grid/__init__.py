"""The grid of trainings behind docs/results.md: its cells, their training and their results."""
