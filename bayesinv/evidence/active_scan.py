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

from bayesinv.axes import Array, Index
from bayesinv.evidence.active import FocalCourses, FocalRecording, Table, parts_of
from bayesinv.evidence.deviation import Deviations

BLOCK = 1024
"""Sources that are handled at once, so that what is written stays in the processor's cache."""

KEPT = 3
"""Sources whose products are held after they were taken."""

TABLED = 1e-3
"""Power of a mode of time relative to the strongest, below which tables leave it out: they serve to propose sources."""

LARGEST = 340.0
"""Logarithm of a product of determinants that is worked out at once, up to twice of which is a number."""


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
            stop = min(start + BLOCK, sources)
            size = stop - start
            for added in range(along.shape[2]):
                shift = signed * shifts[k, added]
                pair = 0
                for a in range(axes):
                    row, out = rows[a, :size], cross[k, a, start:stop]
                    row[:] = 0
                    for column in range(columns):
                        weight, product = along[k, column, added], products[column, k, a, start:stop]
                        for j in range(size):
                            row[j] += weight * product[j]
                    for j in range(size):
                        out[j] += shift * row[j]
                    for b in range(a + 1):
                        other, out = rows[b, :size], own[k, pair, start:stop]
                        for j in range(size):
                            out[j] += signed * row[j] * other[j]
                        pair += 1


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _single_factors(
    own: Table, cross: Table, weights: Table, group: Index, quadratic: Table, determinants: Array
) -> None:
    """Fill in quadratic forms (weight, source), and products of determinants (group of modes, weight, source)."""
    modes, count = weights.shape
    sources, one = own.shape[2], np.float32(1)
    power, square = np.empty(BLOCK, dtype=np.float32), np.empty(BLOCK, dtype=np.float32)
    for start in range(0, sources, BLOCK):
        stop = min(start + BLOCK, sources)
        size = stop - start
        for k in range(modes):
            r, c = own[k, 0, start:stop], cross[k, 0, start:stop]
            for j in range(size):
                power[j] = max(r[j], np.float32(0))
                square[j] = c[j] * c[j]
            for s in range(count):
                weight = weights[k, s]
                out, product = quadratic[s, start:stop], determinants[group[k], s, start:stop]
                for j in range(size):
                    factor = one + weight * power[j]
                    out[j] += weight * square[j] / factor
                    product[j] *= np.float64(factor)


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _triple_factors(
    own: Table, cross: Table, weights: Table, group: Index, quadratic: Table, determinants: Array
) -> None:
    """By Cholesky factors without roots, L diag(d) Lᵀ = 1 + weight R, for three axes."""
    modes, count = weights.shape
    for k in range(modes):
        r00, r10, r11, r20, r21, r22 = own[k, 0], own[k, 1], own[k, 2], own[k, 3], own[k, 4], own[k, 5]
        c0, c1, c2 = cross[k, 0], cross[k, 1], cross[k, 2]
        for s in range(count):
            weight, out, product = np.float64(weights[k, s]), quadratic[s], determinants[group[k], s]
            for j in range(len(r00)):
                first = 1 + weight * max(np.float64(r00[j]), 0.0)
                low = weight * r10[j] / first
                second = max(1 + weight * r11[j] - low * low * first, 1.0)
                lower = weight * r20[j] / first
                lowest = (weight * r21[j] - lower * low * first) / second
                third = max(1 + weight * r22[j] - lower * lower * first - lowest * lowest * second, 1.0)
                x = np.float64(c0[j])
                y = c1[j] - low * x
                z = c2[j] - lower * x - lowest * y
                out[j] += weight * (x * x / first + y * y / second + z * z / third)
                product[j] *= first * second * third


def log_factors(own: Table, cross: Table, weights: Array) -> Array:
    """What each of many sources would add to the log density, nats, with each of some strengths: (strength, source).

    own, cross : R (mode, pair, source) and c (mode, axis, source)
    weights : (strength, mode), variance of the source's course in each mode
    """
    count = len(weights)
    # Logarithms cost most: determinants of as many modes as may be are multiplied before one is taken.
    sizes = cross.shape[1] * np.log1p(weights.max(axis=0) * np.maximum(own.max(axis=(1, 2)), 0.0))
    group = np.floor(np.cumsum(sizes) / LARGEST).astype(np.int64)
    quadratic = np.zeros((count, own.shape[2]), dtype=np.float32)
    determinants = np.ones((int(group[-1]) + 1, count, own.shape[2]))
    loop = _single_factors if cross.shape[1] == 1 else _triple_factors
    loop(own, cross, np.ascontiguousarray(weights.T, dtype=np.float32), group, quadratic, determinants)
    logs = np.log(determinants, out=determinants).sum(axis=0)
    return np.asarray(0.5 * (quadratic - logs), dtype=np.float32)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
def fill_products(
    rows: Array,
    blocks: Index,
    precision: Array,
    recording: Array,
    active: Array,
    means: Array,
    covariances: Array,
    gram: Array,
    cross: Array,
) -> None:
    """Fill in R and c of some sources and directions, given what is active, in double precision.

    rows : (source, column, block × component), fields; blocks : (mode,)
    precision, recording : (mode, component)
    active : (column of the active, block × component), fields times strengths; means, covariances : of their courses
    gram : (source, mode, column, column); cross : (source, mode, column)
    """
    count, size = rows.shape[:2]
    components = precision.shape[1]
    weighted, along = np.empty(components), np.empty((size, len(active)))
    for source in range(count):
        for k in range(len(precision)):
            start = blocks[k] * components
            stop = start + components
            for a in range(size):
                row, total = rows[source, a, start:stop], 0.0
                for i in range(components):
                    weighted[i] = precision[k, i] * row[i]
                for i in range(components):
                    total += weighted[i] * recording[k, i]
                for c in range(len(active)):
                    other, product = active[c, start:stop], 0.0
                    for i in range(components):
                        product += weighted[i] * other[i]
                    along[a, c] = product
                    total -= product * means[k, c]
                cross[source, k, a] = total
                for b in range(a + 1):
                    other, total = rows[source, b, start:stop], 0.0
                    for i in range(components):
                        total += weighted[i] * other[i]
                    for c in range(len(active)):
                        for d in range(len(active)):
                            total -= along[a, c] * covariances[k, c, d] * along[b, d]
                    gram[source, k, a, b] = total
                    gram[source, k, b, a] = total


class Scan:
    """The sources that are active, and the tables of what one more would add.

    Products of those that were taken last are held behind those of the active ones, for when they come back.

    table : (axis, block × component, source), fields in single precision
    pairs : (pair, block × component, source), products of two axes
    """

    def __init__(self, table: Table, pairs: Table) -> None:
        self.axes, self.table, self.pairs = len(table), table, pairs
        self.fields: list[Array] = []
        self.strengths: list[float] = []
        self.taken: list[Array] = []
        self._courses: FocalCourses | None = None
        self.held = np.empty((0, 0, self.axes, table.shape[2]), dtype=np.float32)

    def begin(self, recording: FocalRecording, spread: Array) -> None:
        """Start anew with no active source, at D (component, mode)."""
        powers, coefficients = recording.powers, recording.coefficients
        self.powers, self.coefficients, self.spread, self.blocks = powers, coefficients, spread, recording.blocks
        self.tabled = np.flatnonzero(powers > TABLED * powers.max())
        self.parts = parts_of(self.blocks[self.tabled], len(coefficients))
        weights = 1 / spread[:, self.tabled]
        self.precision = np.ascontiguousarray(weights.T, dtype=np.float32)
        weighted = np.ascontiguousarray((coefficients[:, self.tabled] * weights).T, dtype=np.float32)
        modes, axes, sources = len(self.tabled), self.axes, self.table.shape[2]
        self.cross = np.empty((modes, axes, sources), dtype=np.float32)
        self.own = np.empty((modes, axes * (axes + 1) // 2, sources), dtype=np.float32)
        for rows, some in self.parts:
            for a in range(axes):
                self.cross[some, a] = weighted[some] @ self.table[a, rows]
            for pair, product in enumerate(self.pairs):
                self.own[some, pair] = self.precision[some] @ product[rows]
        self.fields, self.strengths, self.taken, self._courses = [], [], [], None
        if self.held.shape[1:] != self.cross.shape:
            self.held = np.empty((0, modes, axes, sources), dtype=np.float32)

    @property
    def products(self) -> Table:
        """Products (column, mode, axis, source) of every source's field with those of the active ones."""
        return self.held[: len(self.fields) * self.axes]

    def _multiply(self, fields: list[Array], out: Table) -> None:
        """Fill in products (source × axis, mode, axis, source) of every source's field with some, by D⁻¹."""
        chosen = np.concatenate(fields, axis=1, dtype=np.float32).T
        for rows, some in self.parts:
            weighted = (self.precision[some] * chosen[:, None, rows]).reshape(-1, self.precision.shape[1])
            for a in range(self.axes):
                out[:, some, a] = (weighted @ self.table[a, rows]).reshape(len(out), some.stop - some.start, -1)

    @property
    def columns(self) -> Array:
        """Fields of the active sources times their strengths: (block × component, source × axis)."""
        fields = [strength * field for strength, field in zip(self.strengths, self.fields, strict=True)]
        return np.concatenate(fields, axis=1) if fields else np.empty((self.table.shape[1], 0))

    def courses(self) -> FocalCourses:
        """Posterior of the courses of the active sources."""
        if self._courses is None:
            self._courses = FocalCourses.of(self.columns, self.coefficients, self.spread, self.powers, self.blocks)
        return self._courses

    def _pass(self, courses: FocalCourses, some: slice, sign: float) -> None:
        covariances = courses.covariances[self.tabled][:, :, some]
        lower = np.linalg.inv(np.linalg.cholesky(covariances[:, some]))
        along = covariances @ lower.swapaxes(1, 2) * np.repeat(self.strengths, self.axes)[:, None]
        shifts = (lower @ courses.means[self.tabled][:, some, None])[..., 0]
        tables = self.own, self.cross, self.products
        add_product(*tables, along.astype(np.float32), shifts.astype(np.float32), sign)

    def _swap(self, first: int, second: int) -> None:
        """Let what is held of two sources change places."""
        if first != second:
            some, others = (slice(place * self.axes, (place + 1) * self.axes) for place in (first, second))
            self.held[some], self.held[others] = self.held[others], self.held[some].copy()

    def put(self, fields: list[Array], strengths: Array) -> None:
        """Let some sources, one or more, be active that are not so far.

        fields : of each (block × component, axis); strengths : (source,)
        """
        if not fields:
            return
        count = len(self.fields)
        start, stop = count * self.axes, (count + len(fields)) * self.axes
        wanted = stop + KEPT * self.axes
        if wanted > len(self.held):
            more = np.empty((max(wanted, 2 * len(self.held)), *self.cross.shape), dtype=np.float32)
            more[: len(self.held)] = self.held
            self.held = more
        kept = [place for place, field in enumerate(self.taken) if field is fields[0]]
        if len(fields) == 1 and kept:
            self._swap(count, count + kept[0])
            self.taken[kept[0]] = self.taken[0]
        else:
            if 0 < len(self.taken) < KEPT:
                self._swap(count, count + len(self.taken))
                self.taken.append(self.taken[0])
            self._multiply(fields, self.held[start:stop])
        del self.taken[: len(fields)]
        self.fields += fields
        self.strengths += strengths.tolist()
        self._courses = None
        self._pass(self.courses(), slice(start, None), -1.0)

    def take(self, place: int) -> None:
        """Let one of the active sources, by its place among them, be no longer active."""
        self._pass(self.courses(), slice(place * self.axes, (place + 1) * self.axes), 1.0)
        last = len(self.fields) - 1
        self.taken.insert(0, self.fields[place])
        self._swap(place, last)
        self.fields[place], self.strengths[place] = self.fields[last], self.strengths[last]
        del self.fields[last], self.strengths[last]
        self._courses = None

    def log_factors(self, strengths: Array, some: Index | None = None) -> Array:
        """What each source, or each of some, would add with each of some strengths, nats: (strength, source)."""
        weights = strengths[:, None] ** 2 * self.powers[self.tabled]
        if some is None:
            return log_factors(self.own, self.cross, weights)
        return log_factors(self.own[:, :, some], self.cross[:, :, some], weights)

    def deviations(self, fields: Array, tabled: bool = False) -> Deviations:
        """Products of some sources' fields and of the directions in which these may deviate.

        fields : (source, block × component, 1 + direction, axis), of unit strength
        tabled : whether in the modes of the tables alone
        """
        count, components, *shape = fields.shape
        some = self.tabled if tabled else slice(None)
        rows = np.ascontiguousarray(fields.transpose(0, 2, 3, 1)).reshape(count, -1, components)
        precision = np.ascontiguousarray((1 / self.spread[:, some]).T)
        recording = np.ascontiguousarray(self.coefficients[:, some].T)
        courses, modes = self.courses(), len(precision)
        gram = np.empty((count, modes, rows.shape[1], rows.shape[1]))
        cross = np.empty(gram.shape[:3])
        active = np.ascontiguousarray(self.columns.T)
        means, covariances = courses.means[some], courses.covariances[some]
        fill_products(rows, self.blocks[some], precision, recording, active, means, covariances, gram, cross)
        powers = np.ascontiguousarray(self.powers[some])
        return Deviations(gram.reshape(count, modes, *shape, *shape), cross.reshape(count, modes, *shape), powers)
