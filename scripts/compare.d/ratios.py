"""Receivers against each other, by the runs of the same repetition: a machine's speed drifts, and a pair's alike."""

import dataclasses
import math
import statistics
from typing import Optional, Tuple

LEAST_FOR_INTERVAL = 15
CONFIDENCE = 0.9


@dataclasses.dataclass
class Middle:
    """The median over pairs, and where the true one is by nine chances in ten."""
    median: float
    interval: Optional[Tuple[float, float]]

    def __str__(self):
        text = f"{self.median:.2f}"
        if self.interval:
            low, high = self.interval
            text += f" [{low:.2f}, {high:.2f}]"
        return text


def compare(runs, others, value, combine):
    """The median of what `combine` makes of two runs' values; None without a pair."""
    by_repetition = {run.repetition: run for run in others if not run.failure}
    pairs = [(run, by_repetition[run.repetition]) for run in runs
             if not run.failure and run.repetition in by_repetition]
    results = sorted(combine(value(run), value(other)) for run, other in pairs)
    if not results:
        return None
    return Middle(statistics.median(results), interval_of_median(results))


def interval_of_median(results):
    """By the sign test: how many of the sorted results can be left out at each end, whatever they are spread like."""
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
