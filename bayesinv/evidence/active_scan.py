"""What one more source would add, for thousands of possible sources, kept up to date as sources come and go.

Tables hold R and c of `evidence.active`: `own` (mode, pair, source), with the pairs of axes a ≥ b at a (a + 1) / 2 + b,
and `cross` (mode, axis, source), both in single precision, which is good for a thousandth of a nat. With B the
covariance of the courses of all that are active, m their means, P the products of every source's field with theirs,
and s the columns of one of them,

    without it: R + t tᵀ, c + t C⁻¹ m_s,    t = P B_s C⁻ᵀ,  C Cᵀ = B_ss

and with one more the same from the other side: a source that comes or goes costs as many passes over the table as there
are sources, and no product with the gain but one, of the field of the source that comes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bayesinv.axes import Array
from bayesinv.evidence.active import FocalCourses, Table, products_of
from bayesinv.evidence.deviation import Deviations

BLOCK = 1024
"""Sources that are handled at once, so that what is written stays in the processor's cache."""

TOGETHER = 16
"""Modes whose determinants are multiplied before a logarithm is taken; each is far below 1e19."""


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def add_product(own: Table, cross: Table, products: Table, along: Table, shifts: Table, sign: float) -> None:
    """Add sign t tᵀ to R and sign t shift to c, where t = products · along, in place.

    products : (column, mode, axis, source), of the fields of every source with those of the active ones
    along : (mode, column, added); shifts : (mode, added)
    """
    columns, modes, axes, sources = products.shape
    signed = np.float32(sign)
    rows = np.empty((axes, BLOCK), dtype=np.float32)
    for k in range(modes):
        for start in range(0, sources, BLOCK):
            size = min(BLOCK, sources - start)
            for added in range(along.shape[2]):
                rows[:] = 0
                for column in range(columns):
                    weight = along[k, column, added]
                    if weight != 0:
                        for a in range(axes):
                            for j in range(size):
                                rows[a, j] += weight * products[column, k, a, start + j]
                shift = signed * shifts[k, added]
                pair = 0
                for a in range(axes):
                    for j in range(size):
                        cross[k, a, start + j] += shift * rows[a, j]
                    for b in range(a + 1):
                        for j in range(size):
                            own[k, pair, start + j] += signed * rows[a, j] * rows[b, j]
                        pair += 1


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _single_factors(own: Table, cross: Table, weights: Array, quadratic: Array, determinants: Array) -> None:
    for k in range(len(weights)):
        weight, chunk = weights[k], k // TOGETHER
        for j in range(own.shape[2]):
            factor = 1 + weight * max(np.float64(own[k, 0, j]), 0.0)
            quadratic[j] += weight * np.float64(cross[k, 0, j]) ** 2 / factor
            determinants[chunk, j] *= factor


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _triple_factors(own: Table, cross: Table, weights: Array, quadratic: Array, determinants: Array) -> None:
    """By Cholesky factors without roots, L diag(d) Lᵀ = 1 + weight R, for three axes."""
    for k in range(len(weights)):
        weight, chunk = weights[k], k // TOGETHER
        for j in range(own.shape[2]):
            first = 1 + weight * max(np.float64(own[k, 0, j]), 0.0)
            low = weight * own[k, 1, j] / first
            second = max(1 + weight * own[k, 2, j] - low * low * first, 1.0)
            lower = weight * own[k, 3, j] / first
            lowest = (weight * own[k, 4, j] - lower * low * first) / second
            third = max(1 + weight * own[k, 5, j] - lower * lower * first - lowest * lowest * second, 1.0)
            x = np.float64(cross[k, 0, j])
            y = cross[k, 1, j] - low * x
            z = cross[k, 2, j] - lower * x - lowest * y
            quadratic[j] += weight * (x * x / first + y * y / second + z * z / third)
            determinants[chunk, j] *= first * second * third


def log_factors(own: Table, cross: Table, weights: Array) -> Array:
    """What each of many sources would add to the log density, nats: (source,).

    own, cross : R (mode, pair, source) and c (mode, axis, source)
    weights : (mode,), variance of the source's course in each mode
    """
    quadratic = np.zeros(own.shape[2])
    determinants = np.ones((-(-len(weights) // TOGETHER), own.shape[2]))
    loop = _single_factors if cross.shape[1] == 1 else _triple_factors
    loop(own, cross, weights, quadratic, determinants)
    return np.asarray(0.5 * (quadratic - np.log(determinants).sum(axis=0)))


class Scan:
    """The sources that are active, and the tables of what one more would add.

    table : (axis, component, source), fields in single precision
    pairs : (pair, component, source), products of two axes
    """

    def __init__(self, table: Table, pairs: Table) -> None:
        self.axes, self.table, self.pairs = len(table), table, pairs
        self.fields: list[Array] = []
        self.strengths: list[float] = []
        self.taken: Array | None = None
        self.held = np.empty((0, 0, self.axes, table.shape[2]), dtype=np.float32)

    def begin(self, powers: Array, coefficients: Array, spread: Array) -> None:
        """Start anew with no active source, at D.

        powers : (mode,); coefficients, spread : (component, mode)
        """
        self.powers, self.coefficients, self.spread = powers, coefficients, spread
        self.precision = np.ascontiguousarray((1 / spread).T, dtype=np.float32)
        weighted = np.ascontiguousarray((coefficients / spread).T, dtype=np.float32)
        modes, axes, sources = len(powers), self.axes, self.table.shape[2]
        self.cross = np.empty((modes, axes, sources), dtype=np.float32)
        self.own = np.empty((modes, axes * (axes + 1) // 2, sources), dtype=np.float32)
        for a in range(axes):
            self.cross[:, a] = weighted @ self.table[a]
        for pair, product in enumerate(self.pairs):
            self.own[:, pair] = self.precision @ product
        self.fields, self.strengths, self.taken = [], [], None
        if self.held.shape[1:] != self.cross.shape:
            self.held = np.empty((0, modes, axes, sources), dtype=np.float32)

    @property
    def products(self) -> Table:
        """Products (column, mode, axis, source) of every source's field with those of the active ones."""
        return self.held[: len(self.fields) * self.axes]

    def _multiply(self, fields: list[Array], out: Table) -> None:
        """Fill in products (source × axis, mode, axis, source) of every source's field with some, by D⁻¹."""
        chosen = np.concatenate(fields, axis=1, dtype=np.float32).T
        weighted = (self.precision * chosen[:, None]).reshape(-1, len(self.table[0]))
        for a in range(self.axes):
            out[:, :, a] = (weighted @ self.table[a]).reshape(len(out), len(self.powers), -1)

    @property
    def columns(self) -> Array:
        """Fields of the active sources times their strengths: (component, source × axis)."""
        fields = [strength * field for strength, field in zip(self.strengths, self.fields, strict=True)]
        return np.concatenate(fields, axis=1) if fields else np.empty((len(self.coefficients), 0))

    def courses(self) -> FocalCourses:
        """Posterior of the courses of the active sources."""
        return FocalCourses.of(*products_of(self.columns, self.coefficients, self.spread), self.powers)

    def _pass(self, courses: FocalCourses, some: slice, sign: float) -> None:
        covariances = courses.covariances[:, :, some]
        lower = np.linalg.inv(np.linalg.cholesky(covariances[:, some]))
        along = covariances @ lower.swapaxes(1, 2) * np.repeat(self.strengths, self.axes)[:, None]
        shifts = (lower @ courses.means[:, some, None])[..., 0]
        tables = self.own, self.cross, self.products
        add_product(*tables, along.astype(np.float32), shifts.astype(np.float32), sign)

    def put(self, fields: list[Array], strengths: Array) -> None:
        """Let some sources, one or more, be active that are not so far.

        fields : of each (component, axis); strengths : (source,)
        """
        if not fields:
            return
        start = len(self.fields) * self.axes
        stop = start + len(fields) * self.axes
        if stop > len(self.held):
            more = np.empty((max(stop, 2 * len(self.held)), *self.cross.shape), dtype=np.float32)
            more[:start] = self.held[:start]
            self.held = more
        # What was taken last is still held here.
        if len(fields) > 1 or fields[0] is not self.taken:
            self._multiply(fields, self.held[start:stop])
        self.taken = None
        self.fields += fields
        self.strengths += strengths.tolist()
        self._pass(self.courses(), slice(start, None), -1.0)

    def take(self, place: int) -> None:
        """Let one of the active sources, by its place among them, be no longer active."""
        some = slice(place * self.axes, (place + 1) * self.axes)
        self._pass(self.courses(), some, 1.0)
        last = len(self.fields) - 1
        self.taken = self.fields[place]
        if place < last:
            final = slice(last * self.axes, (last + 1) * self.axes)
            self.held[some], self.held[final] = self.held[final], self.held[some].copy()
            self.fields[place], self.strengths[place] = self.fields[last], self.strengths[last]
        del self.fields[last], self.strengths[last]

    def log_factors(self, strength: float) -> Array:
        """What each source would add with one strength, nats: (source,)."""
        return log_factors(self.own, self.cross, strength**2 * self.powers)

    def deviations(self, fields: Array) -> Deviations:
        """Products of some sources' fields and of the directions in which these may deviate.

        fields : (source, component, 1 + direction, axis), of unit strength
        """
        count, components, *shape = fields.shape
        columns = fields.transpose(1, 0, 2, 3).reshape(components, count, -1)
        size = columns.shape[2]
        rows, others = np.tril_indices(size)
        precision = 1 / self.spread.T
        lower = precision @ (columns[:, :, rows] * columns[:, :, others]).reshape(components, -1)
        gram = np.empty((len(precision), count, size, size))
        gram[:, :, rows, others] = gram[:, :, others, rows] = lower.reshape(len(precision), count, -1)
        flat = columns.reshape(components, -1)
        cross = (precision * self.coefficients.T) @ flat
        if self.fields:
            courses = self.courses()
            # (mode, source × column, active column)
            along = flat.T @ (precision[:, :, None] * self.columns)
            cross -= (along @ courses.means[..., None])[..., 0]
            along = along.reshape(len(precision), count, size, -1)
            gram -= along @ courses.covariances[:, None] @ along.swapaxes(-1, -2)
        return Deviations(
            np.ascontiguousarray(gram.swapaxes(0, 1)).reshape(count, -1, *shape, *shape),
            np.ascontiguousarray(cross.reshape(-1, count, *shape).swapaxes(0, 1)),
            np.ascontiguousarray(self.powers),
        )
