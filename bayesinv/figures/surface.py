"""A cortex seen from any side: its triangles unfolded a little, projected, hidden where others lie in front, shaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bayesinv.axes import Array, Index
from bayesinv.head.sources import Sources

VIEWS = {
    "left lateral": ((-1, 0, 0), (0, 0, 1), 0),
    "left medial": ((1, 0, 0), (0, 0, 1), 0),
    "right medial": ((-1, 0, 0), (0, 0, 1), 1),
    "right lateral": ((1, 0, 0), (0, 0, 1), 1),
    "left": ((-1, 0, 0), (0, 0, 1), None),
    "right": ((1, 0, 0), (0, 0, 1), None),
    "top": ((0, 0, 1), (0, 1, 0), None),
    "bottom": ((0, 0, -1), (0, 1, 0), None),
    "back": ((0, -1, 0), (0, 0, 1), None),
    "front": ((0, 1, 0), (0, 0, 1), None),
}
"""Name to the direction towards the viewer, the direction up, and the hemisphere shown; head coordinates."""

PROJECTIONS = (("left", 1, 2, -1.0), ("top", 0, 1, 1.0), ("back", 0, 2, 1.0))
"""Where there is no surface: name, horizontal and vertical head axis, and direction of the horizontal one."""

FINE = 2
"""Pixels per drawn pixel and side, averaged, so that edges are smooth."""

PIXELS_PER_METRE = 3400.0
SIGHT = 0.006
"""Depth in m below the surface from which a mark still counts as in sight."""

UNFOLDING = 6
"""Smoothing steps that open the sulci a little, so that their walls can be seen."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A surface seen from one side: what of it every drawn pixel shows.

    weights : (row * column, source), sparse, what a pixel takes of each source; they sum to its cover
    cover : (row, column), share of the pixel that the surface covers
    shading : (row, column), brightness
    depth : (FINE * row, FINE * column), m, of the surface towards the viewer
    corner : left and top in m
    """

    weights: Any
    cover: Array
    shading: Array
    depth: Array
    corner: Array
    surface: Surface
    frame: Array
    shown: NDArray[np.bool_]

    def values(self, values: Array) -> Array:
        """A map at every pixel."""
        return np.asarray((self.weights @ values).reshape(self.cover.shape) / np.maximum(self.cover, 1e-9))

    def paint(self, colours: Array) -> Array:
        """Colours (row, column, 4) of a map shaded, on white."""
        lit = np.minimum(colours[:, :, :3] * self.shading[:, :, None], 1)
        return np.asarray(1 + (lit - 1) * self.cover[:, :, None])

    def places(self, marks: Array) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
        """Where marks lie (mark, column and row), which are in sight, and which belong to what is shown."""
        near, offset = self.surface.nearest(marks)
        turned = (self.surface.unfolded[near] + offset) @ self.frame.T
        fine = (turned[:, :2] - self.corner) * (1, -1) * PIXELS_PER_METRE
        column, row = np.clip(fine.astype(int), 0, np.array(self.depth.shape)[::-1] - 1).T
        mine = self.shown[near]
        return fine / FINE, mine & (turned[:, 2] >= self.depth[row, column] - SIGHT), mine


class Surface:
    """The triangles between sources, unfolded a little, and how they look from any side."""

    def __init__(self, sources: Sources) -> None:
        assert sources.triangles is not None
        self.sources, self.triangles = sources, sources.triangles
        self.hemispheres = sources.hemispheres

    @cached_property
    def _outward(self) -> Array | None:
        """1 or -1 per triangle, as its corners turn seen from outside; None where the surface is open.

        The far side of a closed surface need not be drawn.
        """
        edges = self.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        there = {*map(tuple, edges.tolist())}
        if len(there) < len(edges) or any((two, one) not in there for one, two in there):
            return None
        sign = np.ones(len(self.triangles))
        for part in self._parts():
            mine = np.isin(self.triangles[:, 0], part)
            one, two, three = (
                self.unfolded[self.triangles[mine, i]] - self.unfolded[part].mean(axis=0) for i in range(3)
            )
            sign[mine] = np.sign(np.einsum("ti,ti->", one, np.cross(two, three)))
        return sign

    @cached_property
    def _mean_of_neighbours(self) -> Any:
        count = len(self.sources)
        sides = np.concatenate([self.triangles[:, [i, j]] for i in range(3) for j in range(3) if i != j])
        table = csr_array((np.ones(len(sides)), sides.T), shape=(count, count))
        table.data[:] = 1.0
        lonely = np.flatnonzero(np.bincount(sides[:, 0], minlength=count) == 0)
        table = table + csr_array((np.ones(len(lonely)), (lonely, lonely)), shape=(count, count))
        return table / table.sum(axis=1)[:, None]

    @cached_property
    def unfolded(self) -> Array:
        """Positions (source, 3), m, smoothed and grown back to the size they had."""
        smooth = self.sources.positions
        for _ in range(UNFOLDING):
            smooth = 0.5 * smooth + 0.5 * (self._mean_of_neighbours @ smooth)
        out = smooth.copy()
        for part in self._parts():
            before, after = self.sources.positions[part], smooth[part]
            ratio = np.ptp(before, axis=0).mean() / max(np.ptp(after, axis=0).mean(), 1e-12)
            out[part] = before.mean(axis=0) + ratio * (after - after.mean(axis=0))
        return out

    def _parts(self) -> list[Index]:
        if self.hemispheres is None:
            return [np.arange(len(self.sources))]
        return [np.flatnonzero(self.hemispheres == side) for side in np.unique(self.hemispheres)]

    @cached_property
    def _normals(self) -> Array:
        corners = self.unfolded[self.triangles]
        sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = np.zeros_like(self.unfolded)
        for corner in range(3):
            np.add.at(normals, self.triangles[:, corner], sides)
        return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300))

    @cached_property
    def _sulci(self) -> Array:
        """Brightness (source,) that tells gyri from sulci of the folded surface."""
        from scipy.special import erf

        inward = self._mean_of_neighbours @ self.sources.positions - self.sources.positions
        height = -np.einsum("si,si->s", inward, self._normals)
        height = 0.5 * height + 0.5 * (self._mean_of_neighbours @ height)
        return np.asarray(1.0 + 0.1 * erf(height / max(float(np.std(height)), 1e-12)))

    def nearest(self, marks: Array) -> tuple[Index, Array]:
        """The source (mark,) nearest to each mark, and the way (mark, 3) from it to the mark."""
        distance = np.linalg.norm(self.sources.positions - marks[:, None], axis=2)
        near = distance.argmin(axis=1)
        return near, marks - self.sources.positions[near]

    def scene(self, view: str) -> Scene:
        """What is seen from one side, by a depth buffer."""
        toward, up, side = VIEWS[view]
        frame = np.array([np.cross(up, toward), up, toward], dtype=float)
        shown = np.ones(len(self.sources), dtype=bool)
        if side is not None and self.hemispheres is not None:
            shown = self.hemispheres == side
        turned = self.unfolded @ frame.T
        towards = np.ones(len(self.triangles), dtype=bool)
        if self._outward is not None:
            one, two, three = (turned[self.triangles[:, i], :2] for i in range(3))
            (x, y), (u, v) = (two - one).T, (three - one).T
            towards = (x * v - y * u) * self._outward > 0
        triangles = self.triangles[towards & shown[self.triangles].all(axis=1)]
        if not len(triangles):
            raise ValueError(f"view {view!r} shows a hemisphere without sources")
        low, high = turned[shown].min(axis=0)[:2] - 0.001, turned[shown].max(axis=0)[:2] + 0.001
        columns, rows = np.ceil((high - low) * PIXELS_PER_METRE / FINE).astype(int).tolist()
        corner = np.array([low[0], high[1]])
        flat = (turned[:, :2] - corner) * (1, -1) * PIXELS_PER_METRE - 0.5
        pixel, which, weights = _covered(flat[triangles], FINE * columns)
        depth = np.einsum("nk,nk->n", weights, turned[triangles[which], 2])
        # Of several triangles at one pixel the nearest is seen.
        deep = np.full(FINE**2 * rows * columns, -np.inf)
        np.maximum.at(deep, pixel, depth)
        front = depth == deep[pixel]
        pixel, which, weights = pixel[front], which[front], weights[front]
        # Where two triangles share an edge the pixel may lie in both.
        pixel, first = np.unique(pixel, return_index=True)
        drawn = pixel // (FINE * columns) // FINE * columns + pixel % (FINE * columns) // FINE
        table = csr_array(
            (weights[first].ravel() / FINE**2, (np.repeat(drawn, 3), triangles[which[first]].ravel())),
            shape=(rows * columns, len(turned)),
        )
        cover = np.bincount(drawn, minlength=rows * columns).reshape(rows, columns) / FINE**2
        light = np.array([-0.25, 0.45, 0.86])
        lit = np.maximum(self._normals @ frame.T @ light, 0)
        bright = table @ ((0.62 + 0.42 * lit) * self._sulci)
        shading = bright.reshape(rows, columns) / np.maximum(cover, 1e-9)
        return Scene(table, cover, shading, deep.reshape(FINE * rows, FINE * columns), corner, self, frame, shown)


def _covered(corners: Array, columns: int) -> tuple[Index, Index, Array]:
    """Pixels that triangles (triangle, 3, 2) cover: flat pixel number, triangle and barycentric weights of each."""
    first = np.floor(corners.min(axis=1)).astype(int)
    sizes = np.ceil(corners.max(axis=1)).astype(int) - first + 1
    counts = sizes.prod(axis=1)
    which = np.repeat(np.arange(len(corners)), counts)
    step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    x = first[which, 0] + step % sizes[which, 0]
    y = first[which, 1] + step // sizes[which, 0]
    a, b, c = (corners[which, i] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    safe = np.where(area == 0, np.inf, area)
    second = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (y - a[:, 1]) * (c[:, 0] - a[:, 0])) / safe
    third = ((b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0])) / safe
    weights = np.stack([1 - second - third, second, third], axis=1)
    hit = (weights >= -1e-9).all(axis=1) & (area != 0)
    return y[hit] * columns + x[hit], which[hit], weights[hit]
