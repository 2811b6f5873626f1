"""Compares receivers by runs of the same repetition, because a machine's speed drifts for both runs of a pair."""

import dataclasses
import math
import statistics
from typing import Optional, Tuple

LEAST_FOR_INTERVAL = 15
CONFIDENCE = 0.9


@dataclasses.dataclass
class Middle:
    """The median over pairs, and its 90 % interval."""

    median: float
    interval: Optional[Tuple[float, float]]

    def __str__(self):
        text = f"{self.median:.2f}"
        if self.interval:
            low, high = self.interval
            text += f" [{low:.2f}, {high:.2f}]"
        return text


def compare(runs, others, value, combine):
    """The median of `combine` over pairs of runs; None without a pair."""
    by_repetition = {run.repetition: run for run in others if not run.failure}
    pairs = [
        (run, by_repetition[run.repetition])
        for run in runs
        if not run.failure and run.repetition in by_repetition
    ]
    results = sorted(combine(value(run), value(other)) for run, other in pairs)
    if not results:
        return None
    return Middle(statistics.median(results), interval_of_median(results))


def interval_of_median(results):
    """The interval of the sign test, which assumes nothing about how the results are spread."""
    if len(results) < LEAST_FOR_INTERVAL:
        return None
    left_out, chance = 0, 0.0
    while True:
        chance += math.comb(len(results), left_out) / 2 ** len(results)
        if chance > (1 - CONFIDENCE) / 2:
            break
        left_out += 1
    return results[left_out - 1], results[-left_out]


def quotient(one, other):
    return one / other if other else math.nan


def difference(one, other):
    return one - other
