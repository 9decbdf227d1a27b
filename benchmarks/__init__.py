"""Measurements behind the library's choices; each runs as `python -m benchmarks.NAME`."""
