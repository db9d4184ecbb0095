"""The grid of trainings behind docs/results.md: what a cell is, how it is trained, and where its result goes."""
