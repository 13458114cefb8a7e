"""Numbers as text: percentages, medians with intervals, lists, and aligned tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def percent(share: float, digits: int = 3) -> str:
    """Return a fraction as a percentage with that many significant digits."""
    return f"{100 * share:.{digits}g} %"


def spell(middle: float, low: float, high: float, level: float) -> str:
    """Return a median and its interval of probability `level` as text, with as many digits as the interval's width has.

    middle, low, high : the median and the ends of the interval, in one unit
    """
    largest, width = max(abs(low), abs(high), abs(middle)), abs(high - low)
    if not width:
        return three_digits(middle)
    decimals = max(0, 1 - int(np.floor(np.log10(width))))
    if largest >= 1e5 or decimals > 6:
        return f"{middle:.3e},  {percent(level)} in {low:.3e} to {high:.3e}"
    return f"{middle:.{decimals}f},  {percent(level)} in {low:.{decimals}f} to {high:.{decimals}f}"


def not_certain(probability: float) -> str:
    """Return a probability as a percentage that is never rounded to certainty."""
    if probability > 0.999:
        return "more than 99.9 %"
    return f"{100 * probability:.{1 if probability >= 0.995 else 0}f} %"


def three_digits(value: float) -> str:
    """Return a number with three significant digits, without an exponent from 0.001 to 100 000."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def with_error(value: float, error: float) -> str:
    """Return a number and its numerical error, such as a log evidence."""
    return f"{value:.1f} ± {error:.1g}"


def from_draws(probability: float, draws: int) -> str:
    """Return a probability estimated by the share of draws, no more certain than their number allows."""
    if probability <= 0:
        return f"below {1 / draws:.2g}"
    if probability >= 1:
        return f"above {1 - 1 / draws:.4g}"
    return f"{probability:.2f}" if probability >= 0.1 else f"{probability:.2g}"


def listed(things: Iterable[object], most: int = 5) -> str:
    """Return the first things, such as names or indices, and dots where there are more."""
    every = list(things)
    return ", ".join(map(str, every[:most])) + (", ..." if len(every) > most else "")


def some_of(things: Sequence[str], most: int) -> str:
    """Return the first things, and how many more there are."""
    more = len(things) - most
    return ", ".join(things[:most]) + (f" and {more} more" if more > 0 else "")


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Return a table (row, column) of words as lines with aligned columns."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    return "\n".join(line.rstrip() for line in lines)


def span(start: float, stop: float) -> str:
    """Return a window of time, given in s, in ms, for people."""
    first, last = round(1e3 * start), round(1e3 * stop)
    return f"{first} ms" if first == last else f"{first} to {last} ms"
