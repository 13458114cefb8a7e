"""Rendering of a cortex: its triangles are smoothed, projected, depth-tested and shaded."""

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
"""Projections of sources without a surface: name, horizontal and vertical head axis, sign of the horizontal one."""

OVERSAMPLING = 2
"""Rendered pixels per drawn pixel along each axis; they are averaged, so that edges are smooth."""

PIXELS_PER_METRE = 3400.0
VISIBLE_DEPTH = 0.006
"""Largest depth in m below the surface at which a mark counts as visible."""

SMOOTHING_STEPS = 6
"""Smoothing steps of the surface, which open the sulci so that their walls are visible."""


@dataclass(frozen=True, eq=False)
class RenderedView:
    """A surface rendered in one view.

    weights : (row * column, source), sparse, interpolation weights of the sources at each pixel; they sum to its cover
    cover : (row, column), share of the pixel that the surface covers
    shading : (row, column), brightness
    depth : (OVERSAMPLING * row, OVERSAMPLING * column), m, coordinate of the surface towards the viewer
    corner : left and top edge in m
    frame : (3, 3), directions right, up and towards the viewer
    shown : (source,), whether a source belongs to the hemisphere of the view
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
        """Return a map (source,) interpolated at every pixel: (row, column)."""
        return np.asarray((self.weights @ values).reshape(self.cover.shape) / np.maximum(self.cover, 1e-9))

    def paint(self, colours: Array) -> Array:
        """Return the colours (row, column, 4) of a map, shaded and on white: (row, column, 3)."""
        shaded = np.minimum(colours[:, :, :3] * self.shading[:, :, None], 1)
        return np.asarray(1 + (shaded - 1) * self.cover[:, :, None])

    def project(self, marks: Array) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
        """Return pixels of marks (mark, column and row), which are visible, and which are on what is shown."""
        nearest, offset = self.surface.nearest(marks)
        rotated = (self.surface.unfolded[nearest] + offset) @ self.frame.T
        pixels = (rotated[:, :2] - self.corner) * (1, -1) * PIXELS_PER_METRE
        column, row = np.clip(pixels.astype(int), 0, np.array(self.depth.shape)[::-1] - 1).T
        shown = self.shown[nearest]
        return pixels / OVERSAMPLING, shown & (rotated[:, 2] >= self.depth[row, column] - VISIBLE_DEPTH), shown


class Surface:
    """The smoothed triangles between sources, which can be rendered in any view."""

    def __init__(self, sources: Sources) -> None:
        assert sources.triangles is not None
        self.sources, self.triangles = sources, sources.triangles
        self.hemispheres = sources.hemispheres

    @cached_property
    def _orientation(self) -> Array | None:
        """Orientation (triangle,) of corners seen from outside, 1 or -1; None where the surface is open.

        Triangles of a closed surface that face away from the viewer need not be drawn.
        """
        edges = self.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        directed = {*map(tuple, edges.tolist())}
        if len(directed) < len(edges) or any((two, one) not in directed for one, two in directed):
            return None
        sign = np.ones(len(self.triangles))
        for part in self._parts():
            members = np.isin(self.triangles[:, 0], part)
            one, two, three = (
                self.unfolded[self.triangles[members, i]] - self.unfolded[part].mean(axis=0) for i in range(3)
            )
            sign[members] = np.sign(np.einsum("ti,ti->", one, np.cross(two, three)))
        return sign

    @cached_property
    def _mean_of_neighbours(self) -> Any:
        """Sparse matrix (source, source) that averages over the neighbours of each source."""
        count = len(self.sources)
        edges = np.concatenate([self.triangles[:, [i, j]] for i in range(3) for j in range(3) if i != j])
        table = csr_array((np.ones(len(edges)), edges.T), shape=(count, count))
        table.data[:] = 1.0
        isolated = np.flatnonzero(np.bincount(edges[:, 0], minlength=count) == 0)
        table = table + csr_array((np.ones(len(isolated)), (isolated, isolated)), shape=(count, count))
        return table / table.sum(axis=1)[:, None]

    @cached_property
    def unfolded(self) -> Array:
        """Positions (source, 3), m, smoothed and rescaled to the size of the folded surface."""
        smooth = self.sources.positions
        for _ in range(SMOOTHING_STEPS):
            smooth = 0.5 * smooth + 0.5 * (self._mean_of_neighbours @ smooth)
        out = smooth.copy()
        for part in self._parts():
            before, after = self.sources.positions[part], smooth[part]
            ratio = np.ptp(before, axis=0).mean() / max(np.ptp(after, axis=0).mean(), 1e-12)
            out[part] = before.mean(axis=0) + ratio * (after - after.mean(axis=0))
        return out

    def _parts(self) -> list[Index]:
        """Indices of the sources of each hemisphere."""
        if self.hemispheres is None:
            return [np.arange(len(self.sources))]
        return [np.flatnonzero(self.hemispheres == side) for side in np.unique(self.hemispheres)]

    @cached_property
    def _normals(self) -> Array:
        """Unit normals (source, 3) of the smoothed surface."""
        corners = self.unfolded[self.triangles]
        areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = np.zeros_like(self.unfolded)
        for corner in range(3):
            np.add.at(normals, self.triangles[:, corner], areas)
        return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300))

    @cached_property
    def _sulci(self) -> Array:
        """Brightness (source,) that distinguishes gyri from sulci of the folded surface."""
        from scipy.special import erf

        to_mean = self._mean_of_neighbours @ self.sources.positions - self.sources.positions
        height = -np.einsum("si,si->s", to_mean, self._normals)
        height = 0.5 * height + 0.5 * (self._mean_of_neighbours @ height)
        return np.asarray(1.0 + 0.1 * erf(height / max(float(np.std(height)), 1e-12)))

    def nearest(self, marks: Array) -> tuple[Index, Array]:
        """The source (mark,) nearest to each mark, and the vector (mark, 3) from it to the mark, m."""
        distance = np.linalg.norm(self.sources.positions - marks[:, None], axis=2)
        nearest = distance.argmin(axis=1)
        return nearest, marks - self.sources.positions[nearest]

    def render(self, view: str) -> RenderedView:
        """Render one of `VIEWS` with a depth buffer."""
        toward, up, hemisphere = VIEWS[view]
        frame = np.array([np.cross(up, toward), up, toward], dtype=float)
        shown = np.ones(len(self.sources), dtype=bool)
        if hemisphere is not None and self.hemispheres is not None:
            shown = self.hemispheres == hemisphere
        rotated = self.unfolded @ frame.T
        facing = np.ones(len(self.triangles), dtype=bool)
        if self._orientation is not None:
            one, two, three = (rotated[self.triangles[:, i], :2] for i in range(3))
            (x, y), (u, v) = (two - one).T, (three - one).T
            facing = (x * v - y * u) * self._orientation > 0
        triangles = self.triangles[facing & shown[self.triangles].all(axis=1)]
        if not len(triangles):
            raise ValueError(f"view {view!r} shows a hemisphere without sources")
        low, high = rotated[shown].min(axis=0)[:2] - 0.001, rotated[shown].max(axis=0)[:2] + 0.001
        columns, rows = np.ceil((high - low) * PIXELS_PER_METRE / OVERSAMPLING).astype(int).tolist()
        corner = np.array([low[0], high[1]])
        flat = (rotated[:, :2] - corner) * (1, -1) * PIXELS_PER_METRE - 0.5
        pixel, which, weights = _covered(flat[triangles], OVERSAMPLING * columns)
        depth = np.einsum("nk,nk->n", weights, rotated[triangles[which], 2])
        # Of several triangles at one pixel the nearest is visible.
        buffer = np.full(OVERSAMPLING**2 * rows * columns, -np.inf)
        np.maximum.at(buffer, pixel, depth)
        front = depth == buffer[pixel]
        pixel, which, weights = pixel[front], which[front], weights[front]
        # Where two triangles share an edge the pixel may lie in both.
        pixel, first = np.unique(pixel, return_index=True)
        drawn = (
            pixel // (OVERSAMPLING * columns) // OVERSAMPLING * columns
            + pixel % (OVERSAMPLING * columns) // OVERSAMPLING
        )
        table = csr_array(
            (weights[first].ravel() / OVERSAMPLING**2, (np.repeat(drawn, 3), triangles[which[first]].ravel())),
            shape=(rows * columns, len(rotated)),
        )
        cover = np.bincount(drawn, minlength=rows * columns).reshape(rows, columns) / OVERSAMPLING**2
        light = np.array([-0.25, 0.45, 0.86])
        diffuse = np.maximum(self._normals @ frame.T @ light, 0)
        bright = table @ ((0.62 + 0.42 * diffuse) * self._sulci)
        shading = bright.reshape(rows, columns) / np.maximum(cover, 1e-9)
        return RenderedView(
            table,
            cover,
            shading,
            buffer.reshape(OVERSAMPLING * rows, OVERSAMPLING * columns),
            corner,
            self,
            frame,
            shown,
        )


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
