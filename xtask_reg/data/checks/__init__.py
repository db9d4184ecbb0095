"""Checks of landmark files, and a picture of their content."""
