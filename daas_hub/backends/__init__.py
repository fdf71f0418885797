"""Where servers run. Each backend is one class behind the seam of ``base.py``."""
