"""Noise with heavy tails: a few sensors and samples have noise of their own, how much and which is sampled by Gibbs.

    noise = noise_scale · MatrixNormal(0, C + S diag(v_c) S, K + R diag(v_t) R)
    v_c, v_t : 0 with probability 1 - share, else ~ InverseGamma(ν / 2, ν / 2),   ν = `FREEDOM`,   share ~ Beta

S² and R² are the variances of a sensor's noise given all others', 1 / (C⁻¹)_ii, and of a sample's given all others'.
What a sensor or a sample adds is Student's t, and it adds nothing where nothing asks for it, so that good data have
normal noise. A sensor or a sample with much noise of its own is as good as left out, with no choice made by hand. The
noise of all keeps its correlation: were it multiplied instead, a spike of one sample would have to be one of its
neighbours, too, wherever noise is slow.

Currents are marginalised given the variances: each round draws the hyperparameters by importance sampling with the
current ones among the candidates, which leaves their posterior as it is, then the noise from its exact Gaussian, then
each v from its conditional on a lattice, of log density

    -n log(1 + v p) / 2 + v q / (1 + v p) / 2,

with p its element of the precision without it and q the power of the noise there, and last the shares.

References: West (1984), J. R. Stat. Soc. B 46, 431-439; Verdinelli & Wasserman (1991), Stat. Comput. 1, 105-117;
Andrieu, Lee & Vihola (2018), Bernoulli 24, 842-872, for the step of the hyperparameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference.assemble import flattened, gaussian_checks
from bayesinv.inference.conflict import prior_checks
from bayesinv.inference.medians import median_size
from bayesinv.inference.modes import modes, nearest_mode
from bayesinv.posterior.checks import Check
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture, systematic
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.density import Density
from bayesinv.problem.left_out import sensor_names
from bayesinv.problem.problem import Problem
from bayesinv.problem.tails import sample_units, sensor_columns

BURN, KEPT, THIN = 100, 64, 3
"""Rounds that are thrown away, rounds that the currents are mixed over, and one in how many is kept."""

CANDIDATES, CANDIDATES_OF_STRUCTURE = 32, 4
"""Hyperparameters that a round weighs, and where each costs a decomposition."""

FOLLOWED = 10
"""Rounds of the start after which the candidates' distribution is moved, where each climb costs decompositions."""

WIDENED = 1.3
"""Standard deviation of the candidates, relative to that of the curvature; their tails are Student's."""

FEWEST_MOVES = 0.1
"""Share of rounds at which the hyperparameters move, below which the chain is stuck."""

NARROWEST = 0.5
"""Standard deviation of the draws, relative to that of the curvature given the variances, below which it is stuck:
what is left open by the variances can only widen it."""

CANDIDATE_FREEDOM = 5
"""Degrees of freedom of the candidates' distribution."""

FREEDOM = 2.0
"""Degrees of freedom of Student's t: tails that any outlier fits."""

SHARE = (0.5, 9.5)
"""Parameters of the Beta distribution of the share of sensors, or samples, that have noise of their own."""

LATTICE = np.concatenate([[0.0], np.geomspace(0.1, 1e10, 166)])
"""Variances that a sensor or a sample may add: steps of 16 %, which no recording can tell apart."""

AHEAD = 16
"""Variances that are drawn at once, as long as none changes, at the start of a scan."""

MAX_DIMENSION = 4
"""Most hyperparameters for whose posterior candidates are drawn well from one distribution."""

HEAVY = 1.0
"""Posterior mean of the variance that is added, above which the note names it."""

NAMED = 5
"""Sensors, and samples, that the note names."""


def posterior(
    density: Density, name: str, rng: np.random.Generator, draws: int, timings: dict[str, float]
) -> Posterior:
    """Return the posterior with noise of single sensors and samples integrated over; the method gives no evidence.

    Raises
    ------
    ValueError
        If there are more hyperparameters than a lattice holds, or their density is nowhere finite.
    """
    if density.dimension > MAX_DIMENSION:
        raise ValueError(
            f"noise_tails='student' takes models of up to {MAX_DIMENSION} hyperparameters, but {name} has "
            f"{density.dimension}; use noise_tails='normal' and leave out what the checks name"
        )
    started = time.perf_counter()
    problem = density.observation.problem
    chain = Chain.started(density, rng)
    kept: list[Round] = []
    for number in range(BURN + KEPT * THIN):
        one = chain.round(adapts=number < BURN)
        if number >= BURN and (number - BURN) % THIN == THIN - 1:
            kept.append(one)
    timings["sample"] = time.perf_counter() - started
    nodes = np.concatenate([one.nodes for one in kept])
    weights = np.concatenate([one.weights for one in kept]) / len(kept)
    structures: list[Structure] = []
    which: list[Index] = []
    for one in kept:
        coordinates, own = chain.weighed(one.sensors, one.samples).structural_nodes(one.nodes)
        which.append(own + len(structures))
        structures += chain.weighed(one.sensors, one.samples).structures(coordinates)
    mixed = Mixture(weights, *density.scales(nodes), np.concatenate(which), tuple(structures))
    mixed = mixed.picked(np.flatnonzero(weights > 0), weights[weights > 0])
    drawn = nodes[systematic(weights, draws)]
    found = Posterior(
        problem=problem,
        model=name,
        method="gibbs",
        mixture=mixed,
        hyper=Hyper(flattened(density.hyper(nodes)), weights, flattened(density.hyper(drawn))),
        log_evidence=None,
        timings=timings,
    )
    checks = (
        _drift(kept),
        *_stuck(chain, kept),
        _heaviest(found),
        *gaussian_checks(density.observation.problem, mixed),
    )
    return replace(found, checks=(*checks, *prior_checks(density, drawn)))


@dataclass(frozen=True, eq=False)
class Round:
    """A round: variances (sensor,) and (time,), and candidates (node, coordinate) drawn at these, with weights.

    moved : whether another than the current candidate was drawn
    """

    nodes: Array
    weights: Array
    sensors: Array
    samples: Array
    moved: bool


class Chain:
    """The state of the sampler, and what it needs of the problem.

    sensors, samples : (sensor,) and (time,), variances v
    shares : of sensors and of samples that have noise of their own
    centre, covariance : (coordinate,) and (coordinate, coordinate), of the candidates' distribution
    past : modes given the variances, with covariances from the curvature, of some rounds of the start
    """

    def __init__(self, density: Density, rng: np.random.Generator) -> None:
        self.density, self.rng = density, rng
        self.problem: Problem = density.observation.problem
        self.columns = sensor_columns(self.problem)
        whitening = self.problem.time_whitening
        root = np.eye(len(self.problem.times)) if whitening is None else whitening.mean_root
        self.correlation, self.rows = root @ root.T, np.diag(np.sqrt(sample_units(self.problem)))
        self.sensors, self.samples = np.zeros(self.columns.shape[1]), np.zeros(len(root))
        self.shares = [SHARE[0] / sum(SHARE)] * 2
        self.node = density.start
        self.centre: Array = density.start
        self.covariance: Array = np.eye(density.dimension)
        self.past: list[tuple[Array, Array]] = []
        self.rounds = 0

    @classmethod
    def started(cls, density: Density, rng: np.random.Generator) -> Chain:
        """Return the chain where what stands out is taken for noise, so that currents do not explain it."""
        chain = cls(density, rng)
        white = chain.problem.white_recording
        chain.samples = on_lattice(_excess(np.mean(white**2, axis=0)))
        if chain.problem.white_baseline is not None:
            chain.sensors = on_lattice(_excess(median_size(chain.columns.T @ chain.problem.white_baseline) ** 2))
        if density.dimension:
            (_, chain.centre, chain.covariance), *_ = modes(chain.weighed(chain.sensors, chain.samples))
            chain.node = chain.centre
        return chain

    def weighed(self, sensors: Array, samples: Array) -> Density:
        """The density of the hyperparameters where sensors and samples have noise of their own of these variances."""
        base = self.density.observation.base
        return self.density.given(replace(base, sensor_noise=sensors, sample_noise=samples))

    def round(self, adapts: bool) -> Round:
        """Draw hyperparameters, noise, variances and shares, in this order.

        adapts : whether the candidates' distribution may follow the chain
        """
        sensors, samples = self.sensors.copy(), self.samples.copy()
        given = self.weighed(sensors, samples)
        nodes, weights = self._candidates(given, adapts)
        chosen = int(self.rng.choice(len(nodes), p=weights))
        self.node = nodes[chosen]
        self._draw_variances(*self._noise(given))
        return Round(nodes, weights, sensors, samples, chosen > 0)

    def _candidates(self, given: Density, adapts: bool) -> tuple[Array, Array]:
        """Candidates (node, coordinate) for the hyperparameters, the current ones first, and their weights."""
        size = self.density.dimension
        if not size:
            return np.zeros((1, 0)), np.ones(1)
        centre, covariance = self._proposal(given, adapts)
        root = WIDENED * np.linalg.cholesky(covariance)
        count = CANDIDATES_OF_STRUCTURE if self.density.structural else CANDIDATES
        normal = self.rng.standard_normal((count - 1, size))
        unit = normal / np.sqrt(self.rng.chisquare(CANDIDATE_FREEDOM, (count - 1, 1)) / CANDIDATE_FREEDOM)
        nodes = np.vstack([self.node, centre + unit @ root.T])
        square = np.sum(np.linalg.solve(root, (nodes - centre).T) ** 2, axis=0)
        proposal = -0.5 * (CANDIDATE_FREEDOM + size) * np.log1p(square / CANDIDATE_FREEDOM)
        logs = given(nodes) - proposal
        weights = np.exp(logs - logs.max())
        return nodes, weights / weights.sum()

    def _proposal(self, given: Density, adapts: bool) -> tuple[Array, Array]:
        """Centre and covariance of the candidates.

        They never depend on how far the draws came: a chain that is stuck would narrow them more and more. Where only
        scales are learned, they are the mode and the curvature's given the variances of this very round, which the
        step may depend on. Where a climb costs decompositions, they are those of all variances, as some rounds of the
        start tell, and then stay.
        """
        if not self.density.structural:
            mode, covariance = nearest_mode(given, self.centre, self.covariance)
            if adapts:
                self.centre, self.covariance = mode, covariance
            return mode, covariance
        if adapts:
            self.rounds += 1
            if self.rounds % FOLLOWED == 0:
                self._follow(given)
        return self.centre, self.covariance

    def _follow(self, given: Density) -> None:
        """Move the candidates' distribution to what the last modes and curvatures tell of all variances."""
        start, roughly = self.past[-1] if self.past else (self.centre, self.covariance)
        self.past.append(nearest_mode(given, start, roughly))
        some = self.past[len(self.past) // 2 :]
        centres = np.array([mode for mode, _ in some])
        self.centre = centres.mean(axis=0)
        away = centres - self.centre
        # Variance is the mean of what is left given the variances, and that of the means given these.
        self.covariance = np.mean([one for _, one in some], axis=0) + away.T @ away / max(len(some) - 1, 1)

    def _noise(self, given: Density) -> tuple[Array, Array | None, Array]:
        """Draw the noise of the recording (component, time), of scale one, with the baseline's, white over time.

        Returns also the noise's covariance without what sensors add: (component, component).
        """
        structure = given.structures(given.structural_nodes(self.node[None])[0])[0]
        spectrum = Spectrum.of(self.problem, structure)
        variance, level = (float(one[0]) for one in given.scales(self.node[None]))
        assert spectrum.modes is not None
        signal = variance * spectrum.eigenvalues
        total = signal + level**2
        drawn = self.rng.standard_normal(spectrum.coefficients.shape)
        found = spectrum.coefficients * (level / total) + np.sqrt(signal / total) * drawn
        white, common = (
            self.problem.white_baseline,
            replace(structure, sensor_noise=None).noise_covariance(self.problem),
        )
        return (
            spectrum.from_components @ found @ spectrum.modes.from_modes.T,
            None if white is None else white / level,
            np.eye(len(found)) if common is None else common,
        )

    def _draw_variances(self, recording: Array, baseline: Array | None, common: Array) -> None:
        """Draw the variances of sensors and samples, and their shares, given the noise."""
        added = self.correlation + self.rows**2 * self.samples
        root = np.linalg.cholesky(added)
        white = solve_triangular(root, recording.T, lower=True).T
        white = white if baseline is None else np.hstack([white, baseline])
        covariance = common + (self.columns * self.sensors) @ self.columns.T
        self.sensors = self._scanned(covariance, self.columns, white, self.sensors, self.shares[0])
        root = np.linalg.cholesky(common + (self.columns * self.sensors) @ self.columns.T)
        white = solve_triangular(root, recording, lower=True).T
        self.samples = self._scanned(added, self.rows, white, self.samples, self.shares[1])
        for which, found in enumerate((self.sensors, self.samples)):
            many = int(np.count_nonzero(found))
            self.shares[which] = float(self.rng.beta(SHARE[0] + many, SHARE[1] + len(found) - many))

    def _scanned(self, covariance: Array, columns: Array, noise: Array, variances: Array, share: float) -> Array:
        """Draw each variance given the others, one after the other.

        covariance : (row, row), with what all add
        columns : (row, thing), what noise of each thing puts into the rows
        noise : (row, column), whose columns are independent
        """
        solved = np.linalg.solve(covariance, np.hstack([columns, noise]))
        # aᵀ C⁻¹ a of all pairs, and aᵀ C⁻¹ y.
        table, seen = np.split(columns.T @ solved, [columns.shape[1]], axis=1)
        variances, prior, chances = variances.copy(), log_prior(share), self.rng.random(len(variances))
        i, ahead = 0, AHEAD
        while i < len(variances):
            # Most stay as they are, and what comes before one that changes is the same for all these.
            own, here = variances[i : i + ahead], np.diagonal(table)[i : i + ahead]
            # Without its own variance, from what is solved with it.
            factor = 1 / np.maximum(1 - own * here, 1e-12)
            power = np.sum(seen[i : i + ahead] ** 2, axis=1) * factor**2
            logs = prior + log_conditional(here * factor, power, seen.shape[1])
            drawn = LATTICE[_picked(logs, chances[i : i + ahead])]
            changed = np.flatnonzero(drawn != own)
            if not len(changed):
                i, ahead = i + len(own), 2 * ahead
                continue
            i += int(changed[0])
            change, variances[i] = drawn[changed[0]] - variances[i], drawn[changed[0]]
            way = table[:, i] * (change / (1 + change * table[i, i]))
            seen = seen - np.outer(way, seen[i])
            table = table - np.outer(way, table[i])
            i, ahead = i + 1, max(2, ahead // 2)
        return variances


def log_prior(share: float) -> Array:
    """Log prior probability of each variance of the lattice, where a share of them is not zero."""
    positive = LATTICE[1:]
    slab = -0.5 * FREEDOM * (np.log(positive) + 1 / positive)
    slab -= slab.max()
    # Twice in every round; scipy's logsumexp takes several times as long as all the rest.
    return np.concatenate([[np.log1p(-share)], np.log(share) + slab - np.log(np.exp(slab).sum())])


def log_conditional(precision: float | Array, power: float | Array, count: int) -> Array:
    """Log density of noise, up to a constant, at each variance of the lattice: (variance,), or (thing, variance).

    precision, power : of a thing's noise without its own, and the sum of squares there over `count` columns
    """
    total = 1 + np.multiply.outer(precision, LATTICE)
    return np.asarray(0.5 * (np.multiply.outer(power, LATTICE) / total - count * np.log(total)))


def _picked(logs: Array, chances: Array) -> Index:
    """Indices (row,) drawn with probabilities of these logarithms (row, index), by uniform numbers (row,)."""
    cumulative = np.cumsum(np.exp(logs - logs.max(axis=1, keepdims=True)), axis=1)
    below = np.count_nonzero(cumulative < chances[:, None] * cumulative[:, -1:], axis=1)
    return np.minimum(below, logs.shape[1] - 1)


def _excess(power: Array) -> Array:
    """What is more than twice the usual of some powers, relative to it; else zero."""
    ratio = power / max(float(np.median(power)), 1e-300)
    return np.where(ratio > 2, ratio - 1, 0.0)


def on_lattice(variances: Array) -> Array:
    """The nearest variances of the lattice."""
    return np.asarray(LATTICE[np.abs(LATTICE - variances[:, None]).argmin(axis=1)])


def _drift(kept: list[Round]) -> Check:
    """Check that the first and the second half of the rounds agree."""
    each = np.array(
        [np.concatenate([one.weights @ one.nodes, np.log1p(one.sensors), np.log1p(one.samples)]) for one in kept]
    )
    halves = np.array_split(each, 2)
    spread = np.maximum(each.std(axis=0), 1e-12)
    moved = np.abs(halves[0].mean(axis=0) - halves[1].mean(axis=0)) / spread
    # Of a variance that is nearly always zero the halves differ by chance; hyperparameters may be negative.
    counted = (each > 0).mean(axis=0) > 0.5
    counted[: kept[0].nodes.shape[1]] = True
    drift = float(moved[counted].max(initial=0.0))
    note = "largest difference between the halves of the chain, in sd, of hyperparameters and of noise of their own"
    return Check("chain drift", drift, "< 1 sd", drift < 1.0, note)


def _stuck(chain: Chain, kept: list[Round]) -> tuple[Check, ...]:
    """Check that the hyperparameters move, and that their draws are as wide as the curvature given the variances."""
    if not chain.density.dimension:
        return ()
    moves = float(np.mean([one.moved for one in kept]))
    nodes = np.concatenate([one.nodes for one in kept])
    weights = np.concatenate([one.weights for one in kept]) / len(kept)
    found = np.sqrt(weights @ (nodes - weights @ nodes) ** 2)
    last = kept[-1]
    start = last.nodes[int(last.weights.argmax())]
    _, covariance = nearest_mode(chain.weighed(last.sensors, last.samples), start, chain.covariance)
    width = float(np.min(found / np.sqrt(np.diag(covariance))))
    return (
        Check(
            "chain moves",
            moves,
            f"> {FEWEST_MOVES}",
            moves > FEWEST_MOVES,
            "share of rounds at which the hyperparameters move; where they stay, the chain is stuck",
        ),
        Check(
            "chain width",
            width,
            f"> {NARROWEST}",
            width > NARROWEST,
            "smallest sd of a hyperparameter's draws, relative to its sd by the curvature where single noise is known",
        ),
    )


def _heaviest(found: Posterior) -> Check:
    """Report the sensors and samples whose noise is largest; it is not held against the result."""
    sensors, samples = found.own_noise
    names, times = sensor_names(found.problem), found.problem.times
    told = _listed(sensors, lambda i: names[i]) + _listed(samples, lambda i: f"{1e3 * times[i]:.4g} ms")
    note = "largest variance of noise that a sensor or a sample has of its own, relative to the noise of all"
    if told:
        note = f"count for less, by noise of their own of so many times the variance of all: {', '.join(told)}"
    return Check("noise of their own", float(max(sensors.max(), samples.max())), "reported", True, note)


def _listed(variances: Array, name: Callable[[int], str]) -> list[str]:
    heavy = [int(i) for i in np.argsort(variances)[::-1] if variances[i] > HEAVY]
    more = [f"{len(heavy) - NAMED} more"] if len(heavy) > NAMED else []
    return [f"{name(i)} ({variances[i]:.3g})" for i in heavy[:NAMED]] + more
