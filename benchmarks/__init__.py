"""Side-by-side measurements: `python -m benchmarks.NAME`. The latest are in RESULTS.md."""

from collections.abc import Sequence
from statistics import median


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """The median of `values`, with the least and the most."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
