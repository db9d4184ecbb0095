"""Landmark data: synthetic faces, and conversion between annotation formats."""
