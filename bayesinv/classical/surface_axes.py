"""Amplitudes along tangents and normal of the cortex, in place of x, y and z."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, Index, freeze, real, same_axes
from bayesinv.problem.problem import Problem


@dataclass(frozen=True, eq=False)
class SurfaceProblem(Problem):
    """A problem with free orientation whose amplitudes are (tangent, tangent, normal) instead of head x, y, z.

    directions : (source, axis, 3), the unit vectors of a source's amplitudes, in head coordinates
    """

    directions: Array | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axes != 3 or self.directions is None:
            raise ValueError("a problem in surface axes has free orientation and names its directions")
        object.__setattr__(self, "directions", real("directions", self.directions, "source 3 3"))
        if len(self.directions) != self.source_count:
            raise ValueError(
                f"directions has source = {len(self.directions)}, but the problem has source = {self.source_count}"
            )
        freeze(self.directions)

    def cartesian(self, current: Array) -> Array:
        """Return currents (source, axis, ...) in surface axes as currents along head x, y, z."""
        assert self.directions is not None
        same_axes(directions=(self.directions, "source axis 3"), current=(current[:, :, :1].reshape(-1, 3), "source 3"))
        return np.asarray(np.einsum("sax,sa...->sx...", self.directions, current))


def surface_axes(problem: Problem) -> SurfaceProblem:
    """Return a free-orientation problem whose amplitudes are two tangents of the cortex and its normal.

    In these axes a loose-orientation prior is diagonal, so that `Currents(weights=...)` can hold it.

    Raises
    ------
    ValueError
        If the orientation is fixed, or the sources have no normals.
    """
    if isinstance(problem, SurfaceProblem):
        return problem
    if problem.axes != 3:
        raise ValueError("surface axes want free orientation, but this problem has the normal only")
    normals = head_normals(problem, "surface axes want")
    tangent = np.cross(normals, np.eye(3)[np.argmin(np.abs(normals), axis=1)])
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    directions = np.stack([tangent, np.cross(normals, tangent), normals], axis=1)

    def turned(gain: Array) -> Array:
        table = gain.reshape(len(gain), -1, 3).transpose(1, 0, 2)
        return np.matmul(table, directions.transpose(0, 2, 1)).transpose(1, 0, 2).reshape(gain.shape)

    given: dict[str, Any] = {item.name: getattr(problem, item.name) for item in fields(Problem)}
    given["gain"] = turned(problem.gain)
    if problem.gain_modes is not None:
        given["gain_modes"] = np.stack([turned(one) for one in problem.gain_modes])
    return SurfaceProblem(**given, directions=directions)


def head_normals(problem: Problem, what: str) -> Array:
    """Return the sources' unit normals (source, 3) in head coordinates, or raise; `what` wants them."""
    normals = None if problem.sources is None else problem.sources.normals
    if normals is None:
        raise ValueError(f"{what} the sources' normals, but this problem has none; give normals or sources")
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def has_normals(problem: Problem) -> bool:
    """Return whether the normals of a problem's sources are known, as `normals_of` wants."""
    return isinstance(problem, SurfaceProblem) or (problem.sources is not None and problem.sources.normals is not None)


def normals_of(problem: Problem, what: str) -> Array:
    """Normals (source, 3) in the axes of the problem's amplitudes."""
    if isinstance(problem, SurfaceProblem):
        return np.tile([0.0, 0.0, 1.0], (problem.source_count, 1))
    return head_normals(problem, what)


def sources_of(index: ArrayLike, count: int) -> Index:
    """Return source indices, checked.

    Raises
    ------
    ValueError
        If one lies outside the sources there are.
    """
    table = np.atleast_1d(np.asarray(index))
    if table.ndim != 1 or not np.issubdtype(table.dtype, np.integer):
        raise ValueError(f"sources are named by their integer index, not {index!r}")
    wrong = table[(table < -count) | (table >= count)]
    if wrong.size:
        raise ValueError(f"source {wrong[0]} does not exist; there are {count} sources, from 0 to {count - 1}")
    return np.asarray(table % count, dtype=np.int64)
