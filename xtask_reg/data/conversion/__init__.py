"""Conversion of landmark annotations to COCO-style files with one crop per face."""
