"""Whether two problems have one gain, so that all that follows from it holds for both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bayesinv.problem.problem import Problem


def same_gain(one: Problem, other: Problem) -> bool:
    """Return whether two problems have the same gain, sources and noise between sensors."""
    if other is one or other.shared is one.shared:
        return True
    names = ("gain", "whitener", "error_factor", "gain_modes")
    pairs: list[tuple[Any, Any]] = [(getattr(one, name), getattr(other, name)) for name in names]
    if (one.sources is None) != (other.sources is None) or one.axes != other.axes:
        return False
    if one.sources is not other.sources:
        pairs += [(getattr(one.sources, n), getattr(other.sources, n)) for n in ("positions", "normals", "triangles")]
    if one.noise is not other.noise:
        if one.noise is None or other.noise is None:
            return False
        pairs += [(getattr(one.noise, n), getattr(other.noise, n)) for n in ("covariance", "kinds", "averages")]
    return all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)
