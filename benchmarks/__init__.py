"""Side-by-side measurements: `python -m benchmarks.NAME`. The latest are in RESULTS.md."""
