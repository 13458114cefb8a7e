"""Orientation: the gain along the sources' normals, from which tangential currents are distinguished."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.problem.problem import Problem


def along_normals(problem: Problem) -> Array:
    """Gain of currents along the normals: (component, source)."""
    normals = normals_of(problem)
    return np.einsum("csa,sa->cs", problem.gain.reshape(len(problem.gain), -1, 3), normals)


def normals_of(problem: Problem) -> Array:
    """Normals (source, 3) that orientation refers to.

    Raises
    ------
    ValueError
        If the problem has fixed orientation, or its sources have no normals.
    """
    if problem.axes != 3:
        raise ValueError("the problem has fixed orientation: there are no tangential currents; build it with free ones")
    if problem.sources is None or problem.sources.normals is None:
        raise ValueError("tangential currents want the sources' normals, but this problem has none; give `sources`")
    return problem.sources.normals
