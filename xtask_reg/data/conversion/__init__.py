"""Landmark annotations of other formats as COCO-style files with one crop a face."""
