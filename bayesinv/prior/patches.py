"""Patches: a prior of a few focal sources, each a patch of cortex of unknown place, extent and strength.

    current = dense + Σ_k b_k s_k,    k < count;    b_k a patch that deviates towards its neighbours
    count ~ Binomial(most, q),        q ~ Beta(3, 3 (most / expected - 1))
    dense ~ Normal(0, variance D ⊗ T),  error ~ Normal(0, error² T) in each whitened component
    s_k   ~ Normal(0, strength_k² T),   T_tu = (1 + d) exp(-d),  d = sqrt(3) |t - u| / constant
    strength_k ~ HalfCauchy(scale), on a grid;   log constant ~ Normal(log 20 ms, 1), on a grid

Where MEG and EEG have noise of different colour, errors have in each what T is as its noise has it: F T Fᵀ in the
smaller group, F = K_g^½ K_1^-½, so that fields are off by as much in units of the noise at all frequencies.

A patch spreads one current evenly over the cortex within an extent of a place. Places are uniform by area, extents
uniform. What lies between places and extents is reached by deviations; see `prior.neighbours`. Where the gain is
uncertain, see `forward_error`, all sources have the fields of one head, which is learned:

    field of b = (gain + Σ_j head_j modes_j) b,    head_j ~ Normal(0, 1) between -2 and 2

References: Mitchell & Beauchamp (1988), J. Am. Stat. Assoc. 83, 1023-1032 (a prior of few); Sommariva & Sorrentino
(2014), Inverse Probl. 30, 114020 (few sources of unknown number in MEG).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, eye_array, hstack
from scipy.sparse.csgraph import dijkstra
from scipy.special import logsumexp, ndtr, ndtri

from bayesinv.axes import Array, Index
from bayesinv.covariance.time_course import correlation_over_time, equally_spaced
from bayesinv.geometry.geodesic import edge_lengths
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.prior.neighbours import Neighbours
from bayesinv.prior.scales import USUAL, WIDTH
from bayesinv.problem.problem import Problem

AREAS = (1e-4, 3e-4, 10e-4)
"""Areas in m² of the patches that are tried where no extents are given, beside single places."""

SURENESS = 3.0
"""How surely the number of sources is the one that is expected: of 3 the prior makes 3 ± 2.2, and none has probability
0.11. With 1 it is all but geometric, and its tail explains dense currents by a dozen sources."""

LEVELS, LOWEST, HIGHEST = 31, 1e-2, 1e3
"""Number of strengths on the grid, and the ends of it relative to the scale."""

ERRORS, ERROR_RANGE = 15, (0.03, 100.0)
"""Number of errors on the grid, and the ends of it relative to their median."""

CONSTANTS = 15
"""Number of time constants on the grid."""

FARTHEST = 2.0
"""Standard deviations from its mean that a head may lie at: modes are linear in a gain that is never negative."""

BLOCK = 128
"""Number of places from which distances along the cortex are computed at once."""


@dataclass(frozen=True, eq=False)
class Patches(PickledByFields):
    """A few focal sources beside the dense currents of a prior; see `Currents`.

    problem : whose sources they are
    extents : m, distances along the cortex from a patch's centre to its edge that are as probable as each other; 0 is
        a single place. None takes single places and discs of 1, 3 and 10 cm² that hold more than one source.
        Without triangles, patches are balls
    expected : number of sources that is expected
    most : number of sources above which none is added
    scale : A m, median strength of a patch, which is its current summed over its places; None takes the one whose
        field is as strong as the noise at the median place
    error : median of what fields of sources are off by in each sensor, in units of the noise, as a wrong head makes
        them be, beyond what `problem.gain_modes` know of; it has the sources' courses, and is learned. 0 takes fields
        for exact
    deviation : standard deviation of how far patches deviate towards those next to them, along each of few directions,
        of what these differ by; 0.6 is that of places and extents anywhere between those of the grid. 0 takes patches
        as they are
    time : s, time constant of the courses, of dense currents too; "learned" learns it where samples are equally
        spaced; None for courses that are correlated over time as the noise is
    """

    problem: Problem
    extents: Sequence[float] | None = None
    expected: float = 3.0
    most: int = 12
    scale: float | None = None
    error: float = 0.3
    deviation: float = 0.6
    time: float | str | None = "learned"

    def __post_init__(self) -> None:
        if isinstance(self.most, bool) or not isinstance(self.most, int | np.integer) or self.most < 1:
            raise ValueError(f"most is {self.most!r}, but must be a whole number of sources, at least one")
        if not 0 < self.expected < self.most:
            raise ValueError(
                f"expected is {self.expected}, but the number of sources that is expected must be positive and less "
                f"than the {self.most} there may be at most"
            )
        if self.expected > self.problem.components:
            raise ValueError(
                f"expected is {self.expected}, but the recording has {self.problem.components} components, which "
                "cannot tell more sources apart"
            )
        if self.scale is not None and not 0 < self.scale < np.inf:
            raise ValueError(f"scale is {self.scale}, but the median strength must be positive and finite, in A m")
        if not 0 <= self.error < np.inf:
            raise ValueError(f"error is {self.error}, but must be at least 0 and finite, in units of the noise")
        if not 0 <= self.deviation < np.inf:
            raise ValueError(
                f"deviation is {self.deviation}, but must be at least 0 and finite, relative to the next patches"
            )
        if isinstance(self.time, str) and self.time != "learned":
            raise ValueError(f"time is {self.time!r}, but must be 'learned', a time constant in s, or None")
        if isinstance(self.time, int | float) and not 0 < self.time < np.inf:
            raise ValueError(f"time is {self.time}, but a time constant must be positive and finite, in s")
        if self.extents is not None:
            extents = np.asarray(self.extents, dtype=np.float64)
            if extents.ndim != 1 or not extents.size or not ((extents >= 0) & (extents < np.inf)).all():
                raise ValueError(
                    f"extents is {self.extents!r}, but must be distances of at least 0 m, such as (0, 0.01)"
                )
            if extents.any() and self.problem.sources is None:
                raise ValueError("extents want the sources' positions, but this problem has none; use extents=(0,)")
            object.__setattr__(self, "extents", tuple(float(one) for one in np.unique(extents)))
        self.table  # noqa: B018  checks the extents against the sources

    # --- the dictionary of patches

    def _members(self) -> list[tuple[float, csr_array]]:
        """Return each extent in use, with its table (source, patch) of who belongs to the patch around each source."""
        count, sources = self.problem.source_count, self.problem.sources
        wanted = self.extents
        if wanted is None:
            wanted = (0.0,) if sources is None else (0.0, *np.sqrt(np.array(AREAS) / np.pi))
        found: list[tuple[float, csr_array]] = []
        within = _within(self.problem, max(wanted)) if max(wanted) > 0 else None
        size = 1.0
        for extent in wanted:
            if extent == 0 or within is None:
                found.append((0.0, csr_array(eye_array(count))))
                continue
            row, column, distance = within
            inside = distance <= extent
            belongs = csr_array((np.ones(inside.sum()), (column[inside], row[inside])), shape=(count, count))
            typical = float(np.median(np.bincount(row[inside], minlength=count)))
            if typical > size or (not found and self.extents is not None and typical > 1):
                found.append((float(extent), belongs))
                size = typical
            elif self.extents is not None:
                raise ValueError(
                    f"an extent of {1e3 * extent:.3g} mm is below the spacing of the sources: a patch of it holds "
                    f"{typical:.0f} source{'s' * (typical > 1)}, no more than a smaller one; leave it out"
                )
        return found

    def _made(self) -> tuple[list[float], csr_array]:
        members = self._members()
        area = np.maximum(self._areas, 1e-3 * self._areas.mean())
        blocks = []
        for _, belongs in members:
            weighted = csr_array(belongs * area[:, None])
            blocks.append(csr_array(weighted / np.asarray(weighted.sum(axis=0))[None]))
        table = csr_array(hstack(blocks))
        return [extent for extent, _ in members], table

    def _blocks(self, gain: Array) -> Iterator[tuple[slice, Array]]:
        """Patches of one extent after the other, and their fields in a gain, as those of `fields_in`."""
        axes, count = self.problem.axes, self.problem.source_count
        for start in range(0, self.table.shape[1], count):
            some = slice(start, start + count)
            table = self.table[:, some].T
            yield some, np.stack([table @ gain[:, axis::axes].T for axis in range(axes)], axis=1)

    def fields_in(self, gain: Array) -> Array:
        """Field in a gain of a unit current of each patch, along each axis: (patch, axis, component), 1/(A m)."""
        fields = np.empty((self.table.shape[1], self.problem.axes, self.problem.components))
        for some, block in self._blocks(gain):
            fields[some] = block
        return fields

    @cached_property
    def _tables(self) -> tuple[list[float], csr_array]:
        """Extents in use, and `table`; problems of the same gain share them."""
        return self.problem.shared.recall("patches", self.extents, self._made)

    @property
    def table(self) -> csr_array:
        """Current of each source per unit of a patch's (source, patch); columns sum to one."""
        return self._tables[1]

    @cached_property
    def neighbours(self) -> Neighbours:
        """Patches next to each, and the directions in which it may deviate; problems of the same gain share them."""
        sources = self.problem.sources
        if not self.deviation or sources is None:
            return Neighbours.none(self.table.shape[1])

        def make() -> Neighbours:
            return Neighbours.of(sources, len(self._tables[0]), self.fields_in(self.problem.gain))

        return self.problem.shared.recall("neighbours of patches", self.extents, make)

    def patterns(self, patches: Index, deviations: Array) -> csr_array:
        """Current of every place per unit of some sources', whose patches deviate: (place, active).

        Columns sum to one.

        deviations : (active, direction)
        """
        parts, shares = self.neighbours.parts(patches), self.neighbours.shares(patches, deviations)
        which = np.repeat(np.arange(len(patches)), parts.shape[1])
        blend = csr_array((shares.ravel(), (parts.ravel(), which)), shape=(self.table.shape[1], len(patches)))
        return csr_array(self.table @ blend)

    @property
    def centres(self) -> Index:
        """Source at the centre of each patch: (patch,)."""
        return np.tile(np.arange(self.problem.source_count), len(self._tables[0]))

    @property
    def extent(self) -> Array:
        """Distance from centre to edge of each patch, m: (patch,)."""
        return np.repeat(self._tables[0], self.problem.source_count)

    # --- priors

    @property
    def _areas(self) -> Array:
        """Area that each source stands for, or ones: (source,)."""
        sources = self.problem.sources
        return np.ones(self.problem.source_count) if sources is None or sources.areas is None else sources.areas

    @cached_property
    def _powers(self) -> Array:
        """Squared norm of each patch's field, mean over axes: (patch,)."""
        return np.concatenate(
            [np.einsum("pac,pac->pa", one, one).mean(axis=1) for _, one in self._blocks(self.problem.gain)]
        )

    @cached_property
    def log_prior(self) -> Array:
        """Log probability of each place and extent, given that there is a source: (patch,)."""
        area = np.maximum(self._areas, 1e-12 * max(float(self._areas.max()), 1e-300))
        each = np.log(np.tile(area / area.sum(), len(self._tables[0])) / len(self._tables[0]))
        # What no sensor sees cannot be told from nothing; it has no say in where sources are.
        out = np.where(self._powers > 0, each, -np.inf)
        return np.asarray(out - logsumexp(out))

    @cached_property
    def median_strength(self) -> float:
        """Median of the strengths, A m."""
        if self.scale is not None:
            return float(self.scale)
        return float(1 / np.sqrt(np.median(self._powers[self._powers > 0]) / self.problem.components))

    @cached_property
    def strengths(self) -> tuple[Array, Array]:
        """Strengths on the grid (level,), A m, and their log probabilities."""
        return _half_cauchy(self.median_strength, LOWEST, HIGHEST, LEVELS)

    @cached_property
    def errors(self) -> tuple[Array, Array]:
        """Errors on the grid (level,), in units of the noise, and their log probabilities: half-Cauchy."""
        if not self.error:
            return np.zeros(1), np.zeros(1)
        return _half_cauchy(self.error, *ERROR_RANGE, ERRORS)

    @property
    def count_prior(self) -> tuple[float, float]:
        """Parameters of the beta distribution of q, the probability that one of `most` sources is there."""
        return SURENESS, SURENESS * (self.most / self.expected - 1)

    @cached_property
    def constants(self) -> tuple[tuple[float | None, ...], Array]:
        """Time constants on the grid, s, and their log probabilities; None where courses are as the noise is."""
        times = self.problem.times
        if self.time is None or (self.time == "learned" and (len(times) < 3 or not equally_spaced(times))):
            return (None,), np.zeros(1)
        if not isinstance(self.time, str):
            return (float(self.time),), np.zeros(1)
        span = float(np.ptp(times))
        low, high = 0.5 * span / (len(times) - 1), 5 * span
        grid = np.exp(np.log(USUAL) + WIDTH * np.linspace(-2, 2, CONSTANTS))
        grid = np.unique(np.clip(grid, low, high))
        mass = np.exp(-0.5 * (np.log(grid / USUAL) / WIDTH) ** 2)
        return tuple(float(one) for one in grid), np.log(mass / mass.sum())

    def correlation(self, constant: float) -> Array:
        """Correlation over time (time, time) of the sources' courses."""
        return correlation_over_time(self.problem.times, constant)

    def draw(self, rng: np.random.Generator) -> tuple[csr_array, Array, float | None, float, Array]:
        """Draw active sources' patterns (source, active), strengths (active,) in A m, time constant, error and head."""
        share = rng.beta(*self.count_prior)
        count = int(rng.binomial(self.most, share))
        probability = np.exp(self.log_prior)
        patch = rng.choice(len(probability), size=count, p=probability / probability.sum())

        def one_of(grid: tuple[Array, Array], size: int | None = None) -> Array:
            return np.asarray(rng.choice(grid[0], size=size, p=np.exp(grid[1])))

        strength = one_of(self.strengths, count)
        constants, shares = self.constants
        constant = constants[int(rng.choice(len(constants), p=np.exp(shares)))]
        deviations = self.deviation * rng.standard_normal((count, self.neighbours.count))
        error, modes = float(one_of(self.errors)), self.problem.gain_modes
        head = head_of_prior(0 if modes is None else len(modes), rng)
        return self.patterns(patch, deviations), strength, constant, error, head


def head_of_prior(modes: int, rng: np.random.Generator) -> Array:
    """Draw the coordinates (mode,) of a head from their prior."""
    return np.asarray(ndtri(rng.uniform(ndtr(-FARTHEST), ndtr(FARTHEST), modes)))


def _half_cauchy(median: float, low: float, high: float, count: int) -> tuple[Array, Array]:
    """Grid (level,) of a half-Cauchy variable, from `low` to `high` times its median, and log probabilities."""
    relative = np.geomspace(low, high, count)
    mass = relative / (1 + relative**2)
    return median * relative, np.log(mass / mass.sum())


def _within(problem: Problem, radius: float) -> tuple[Index, Index, Array]:
    """Pairs of sources up to a radius apart, and their distances in m: each (pair,), a source with itself among them.

    Distances are along the cortex, or through space where it is not known; hemispheres are apart.
    """
    sources = problem.sources
    assert sources is not None
    count = len(sources)
    if sources.triangles is None:
        row, column = sources.pairs_within(radius)
        return row, column, np.linalg.norm(sources.positions[row] - sources.positions[column], axis=1)
    edges, parts = edge_lengths(sources), []
    for start in range(0, count, BLOCK):
        some = np.arange(start, min(start + BLOCK, count))
        found = dijkstra(edges, directed=False, indices=some, limit=radius)
        row, column = np.nonzero(found <= radius)
        # Of many places these are the most memory that patches take.
        parts.append((some[row].astype(np.int32), column.astype(np.int32), found[row, column]))
    row, column, distance = (np.concatenate(part) for part in zip(*parts, strict=True))
    return row, column, distance
