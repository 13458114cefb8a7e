"""Chains over active sets where noise has several colours: some of their draws, as often as the exact density wants.

Chains sample by modes of time that the colours share, whose density of a set is a nat or so off. Draws at even steps
are weighted by the ratio of the exact density to that one, and each chain's are drawn anew in proportion, in their
order, so that a draw of much weight stands in the chain several times.

Reference: Rubin (1988), Bayesian Statistics 3, 395-402 (sampling importance resampling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp

from bayesinv.axes import Array
from bayesinv.evidence.active_apart import FocalApart
from bayesinv.evidence.active_modes import FocalBasis, FocalModes
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.evidence.unsettled import ColoursTogetherError
from bayesinv.inference.active_model import ActiveDraws, ActiveModel
from bayesinv.posterior.checks import Check
from bayesinv.posterior.mixture import systematic
from bayesinv.prior.density import Density
from bayesinv.prior.patches import Patches
from bayesinv.problem.time_whitening import several_colours

MOST_DRAWS = 400
"""Draws of all chains whose exact density is worked out, about; on the sample recording a draw takes 0.2 s."""

LEAST_SHARE = 0.2
"""Share of these draws that they are to be worth after they were weighted."""

INSTEAD = "take MEG or EEG alone, a shorter window, or more `sweeps`"


def has_several_colours(density: Density, focal: Patches) -> bool:
    """Whether courses have time constants and noise has several colours, so that modes are only nearly independent."""
    return several_colours(density.observation.problem.time_whitening) and focal.constants[0] != (None,)


@dataclass(frozen=True, eq=False)
class Apart:
    """The exact density beside that of a model's modes.

    model : that chains sample
    exact : of the recording
    constants : s
    to_fields : (component, component), from the first basis of the model's fields to whitened ones
    """

    model: ActiveModel
    exact: FocalApart
    constants: tuple[float, ...]
    to_fields: Array

    @classmethod
    def of(cls, density: Density, focal: Patches, model: ActiveModel) -> Apart:
        """Return the exact density of an observation."""
        problem, base = density.observation.problem, density.observation.base
        constants = tuple(float(one) for one in focal.constants[0] if one is not None)
        basis = FocalBasis.of(problem, base, [FocalModes.of(problem, one) for one in constants])
        return cls(model, FocalApart(problem, base), constants, basis.decompositions[0].from_components)

    def added(self, fields: Array, constant: int, variance: float, noise: float, error: float) -> float:
        """Log of the ratio of the exact density to that of the modes, by fields times strengths in their bases.

        Raises
        ------
        ColoursTogetherError
            If too many parts of the signal depend on each other.
        """
        plain = self.to_fields @ fields[: len(self.to_fields)]
        recording, table = self.model.recordings[constant], self.exact.problem.recording
        whitening = self.exact.problem.time_whitening
        assert whitening is not None
        # Without the baseline, which has no modes.
        alone = -0.5 * (table.size * LOG_2PI + float(whitening.log_volumes.sum()))
        modes = replace(recording, baseline=0.0, baseline_count=0, constant=alone)
        nearly = sum(modes.log_densities(np.ascontiguousarray(fields.T), variance, noise, error))
        return self.exact.log_density(plain, self.constants[constant], variance, noise, error) - nearly

    def of_draw(self, density: Density, draws: ActiveDraws, n: int) -> float:
        """The same of one of a chain's draws."""
        model = self.model.in_head(draws.head[n])
        fields = [np.empty((model.components, 0))]
        for patch, strength, deviation in zip(draws.patch[n], draws.strength[n], draws.deviation[n], strict=True):
            fields.append(strength * model.field(int(patch), deviation))
        variance, noise = density.scales(draws.points[[n]])
        scales = float(variance[0]), float(noise[0]), float(draws.error[n])
        return self.added(np.hstack(fields), int(draws.constant[n]), *scales)

    def of_dense(self, constant: int, variance: float, noise: float, error: float) -> float:
        """The same without focal sources, by a level of the time constant."""
        return self.added(np.empty((self.model.components, 0)), constant, variance, noise, error)


@dataclass(frozen=True, eq=False)
class Weighted:
    """Draws of chains by their exact density.

    draws : of each chain
    log_ratio, error : of the evidence to that by modes, and its standard error, nats
    check : what draws are worth after they were weighted
    """

    draws: list[ActiveDraws]
    log_ratio: float
    error: float
    check: Check


def weighted(apart: Apart, density: Density, found: Sequence[ActiveDraws], rng: np.random.Generator) -> Weighted:
    """Return some draws of chains as often as the exact density wants them; all of them, unweighted, if none is had."""
    length = len(found[0].patch)
    some = np.linspace(0, length - 1, min(length, max(1, MOST_DRAWS // len(found)))).astype(np.int64)
    try:
        logs = np.array([[apart.of_draw(density, one, int(n)) for n in some] for one in found])
    except ColoursTogetherError as error:
        return Weighted(list(found), 0.0, np.inf, _check(np.nan, f" It could not be worked out: {error}."))
    shares = np.exp(logs - logs.max())
    each = shares.sum(axis=1) ** 2 / np.sum(shares**2, axis=1) / len(some)
    anew = [
        one.picked(some[systematic(share, len(some), offset=rng.random())])
        for one, share in zip(found, shares, strict=True)
    ]
    mean = float(logsumexp(logs) - np.log(logs.size))
    # Draws of a chain depend on each other, and chains do not; of one chain its draws count as independent.
    parts = np.exp(logsumexp(logs, axis=1) - np.log(len(some)) - mean) if len(found) > 1 else np.exp(logs[0] - mean)
    error_of_mean = float(parts.std(ddof=1) / np.sqrt(len(parts)))
    return Weighted(anew, mean, error_of_mean, _check(float(each.min()), f" It varies by {logs.std():.2g} nats (sd)."))


def _check(share: float, more: str) -> Check:
    return Check(
        "focal sources of several colours",
        share,
        f"> {LEAST_SHARE:g}",
        share > LEAST_SHARE,
        "share of draws that those of a chain are worth after they were weighted by the exact density, for noise of "
        "MEG and EEG that differs in colour, over that by modes of time that both share."
        f"{more} Where little is left, {INSTEAD}",
    )
