"""Face parts: the sets, the training and the pictures of ``benchmarks/face_parts.py``."""
