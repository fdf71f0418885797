"""The chart, held against a real API server: what it installs, and what its policies let pass."""
