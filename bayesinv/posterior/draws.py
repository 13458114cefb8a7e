"""Joint draws of the currents: hyperparameters from their posterior, then the currents from their exact conditional."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bayesinv.axes import Array
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.conditional import Conditional, row_blocks

BATCH = 2**23
"""Numbers that are drawn at once."""

MOST_GIGABYTES = 16.0


def check_count(count: int, amplitudes: int, samples: int) -> None:
    """Raise unless draws are wanted, and fit into memory."""
    size = count * amplitudes * samples * 8 / 1e9
    if count < 1:
        raise ValueError(f"count is {count}, but at least one draw is wanted")
    if size > MOST_GIGABYTES:
        raise ValueError(f"{count} draws take {size:.0f} GB; draw fewer, or give a window of time")


def draw_mixture(
    conditionals: Sequence[Conditional],
    count: int,
    rng: np.random.Generator,
    samples: slice,
    amplitudes: int,
    length: int,
) -> Array:
    """Draws (draw, amplitude, time) of a mixture; of all samples where uncertainty varies over time.

    amplitudes, length : numbers of amplitudes, and of samples asked for
    """
    nodes = [(g, n) for g, one in enumerate(conditionals) for n in range(len(one.weights))]
    mass = np.concatenate([one.weights for one in conditionals])
    picks = np.sort(rng.choice(len(nodes), size=count, p=mass / mass.sum()))
    out = np.empty((count, amplitudes, length))
    batch = max(1, int(BATCH / (amplitudes * length)))
    for g, one in enumerate(conditionals):
        mine = np.array([i for i, pick in enumerate(picks) if nodes[pick][0] == g], dtype=np.int64)
        for some in np.array_split(mine, range(batch, len(mine), batch)):
            if some.size:
                out[some] = one.draw(np.array([nodes[pick][1] for pick in picks[some]]), rng, samples)
    return np.asarray(rng.permutation(out, axis=0))


def draw_exactly(
    spectrum: Spectrum,
    variance: Array,
    filters: Array,
    reductions: Array,
    coefficients: Array,
    to_sources: Callable[[slice], Array],
    rng: np.random.Generator,
) -> Array:
    """Draws (draw, amplitude, time) of the currents, one at each node of one structure.

    The prior is perturbed and then corrected by the posterior mean of what its recording, observed in noise, would
    have been. A filter whose reduction is l stands for noise of variance v²/l - v s in a component of eigenvalue s.

    variance : (draw,); filters, reductions : (draw, component, [mode])
    coefficients : (component, time or mode)
    to_sources : from rows to D Gᵀ U of them

    Reference: Hoffman & Ribak (1991), Astrophys. J. 380, L5-L8 (conditioning by correcting a draw of the prior).
    """
    problem, structure = spectrum.problem, spectrum.structure
    varies = filters.ndim == 3
    count, columns = len(variance), coefficients.shape[1]
    powers = np.ones(1) if not varies or spectrum.modes is None else spectrum.modes[0]
    spread = variance[:, None] * powers
    reductions = reductions.transpose(1, 0, 2) if varies else reductions.T[:, :, None]
    filters = filters.transpose(1, 0, 2) if varies else filters.T[:, :, None]
    share = np.divide(reductions, spread, out=np.zeros_like(reductions), where=spread > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = spread / share - spread * spectrum.values[:, None, None]
    error = np.sqrt(np.maximum(np.nan_to_num(error, posinf=0.0), 0.0))
    unit = rng.standard_normal((structure.sample_size(problem), count * columns))
    prior = structure.sample(problem, unit).reshape(-1, count, columns) * np.sqrt(spread)
    field = problem.gain @ prior.reshape(len(prior), -1)
    if structure.error and problem.error_factor is not None:
        missed = rng.standard_normal((problem.error_factor.shape[1], count, columns)) * np.sqrt(spread)
        field += structure.error * (problem.error_factor @ missed.reshape(len(missed), -1))
    supposed = (spectrum.to_components.T @ field).reshape(-1, count, columns)
    supposed += error * rng.standard_normal(supposed.shape)
    missing = filters * coefficients[:, None, :] - share * supposed
    for rows in row_blocks(problem.gain.shape[1]):
        prior[rows] += (to_sources(rows) @ missing.reshape(len(missing), -1)).reshape(-1, count, columns)
    flat = prior.transpose(1, 0, 2)
    if varies and spectrum.modes is not None:
        flat = flat @ spectrum.modes[1].T
    return np.asarray(flat)
