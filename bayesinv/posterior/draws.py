"""Joint draws of the currents: hyperparameters from their posterior, then the currents from their exact conditional."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bayesinv.arguments import count_of
from bayesinv.axes import Array
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.conditional import Conditional, row_blocks

BATCH = 2**23
"""Numbers that are drawn at once."""

MAX_GIGABYTES = 16.0
"""Largest size of the array of draws, or of what is known of functionals."""


def check_count(count: int, amplitudes: int, samples: int) -> None:
    """Raise unless the number of draws is positive and they fit into memory."""
    size = count_of("count", count) * amplitudes * samples * 8 / 1e9
    if size > MAX_GIGABYTES:
        raise ValueError(f"{count} draws take {size:.0f} GB; draw fewer, or give a window of time")


def draw_mixture(
    conditionals: Sequence[Conditional],
    count: int,
    rng: np.random.Generator,
    samples: slice,
    amplitudes: int,
    length: int,
) -> Array:
    """Draws (draw, amplitude, time) of some samples of a mixture.

    amplitudes, length : numbers of amplitudes, and of samples or modes of time that are drawn at once
    """
    nodes = [(g, n) for g, one in enumerate(conditionals) for n in range(len(one.weights))]
    mass = np.concatenate([one.weights for one in conditionals])
    picks = np.sort(rng.choice(len(nodes), size=count, p=mass / mass.sum()))
    out: Array | None = None
    batch = max(1, int(BATCH / (amplitudes * length)))
    for g, one in enumerate(conditionals):
        members = np.array([i for i, pick in enumerate(picks) if nodes[pick][0] == g], dtype=np.int64)
        for some in np.array_split(members, range(batch, len(members), batch)):
            if some.size:
                found = one.draw(np.array([nodes[pick][1] for pick in picks[some]]), rng, samples)
                out = np.empty((count, *found.shape[1:])) if out is None else out
                out[some] = found
    assert out is not None
    return np.asarray(rng.permutation(out, axis=0))


def draw_exactly(
    spectrum: Spectrum,
    variance: Array,
    filters: Array,
    reductions: Array,
    coefficients: Array,
    to_sources: Callable[[slice], Array],
    rng: np.random.Generator,
    sample_root: Array | None = None,
    samples: slice = slice(None),
) -> Array:
    """Draws (draw, amplitude, time) of the currents, one at each node of one structure.

    A draw of the prior is corrected by the posterior mean for the difference between the recording and a recording
    simulated from the draw. A reduction l corresponds to noise of variance v²/l - v s in a component of eigenvalue s.

    variance : (draw,); filters, reductions : (draw, component, [mode])
    coefficients : (component, time or mode)
    to_sources : function from rows to these rows of D Gᵀ U
    sample_root : (time, time), root of the currents' correlation over the samples; None where they are independent
    samples : that are wanted of modes of time

    Reference: Hoffman & Ribak (1991), Astrophys. J. 380, L5-L8 (conditioning by correcting a draw of the prior).
    """
    problem, structure = spectrum.problem, spectrum.structure
    varies = filters.ndim == 3
    count, columns = len(variance), coefficients.shape[1]
    powers = np.ones(1) if not varies or spectrum.modes is None else spectrum.modes.powers
    values = spectrum.values_of_modes[:, None] if varies else spectrum.values[:, None, None]
    spread = variance[:, None] * powers

    def normal(*shape: int) -> Array:
        unit = rng.standard_normal(shape)
        return unit if sample_root is None else unit @ sample_root.T

    reductions = reductions.transpose(1, 0, 2) if varies else reductions.T[:, :, None]
    filters = filters.transpose(1, 0, 2) if varies else filters.T[:, :, None]
    share = np.divide(reductions, spread, out=np.zeros_like(reductions), where=spread > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = spread / share - spread * values
    error = np.sqrt(np.maximum(np.nan_to_num(error, posinf=0.0), 0.0))
    unit = normal(structure.sample_size(problem), count, columns).reshape(-1, count * columns)
    prior = structure.sample(problem, unit).reshape(-1, count, columns) * np.sqrt(spread)
    field = problem.gain @ prior.reshape(len(prior), -1)
    if structure.error and problem.error_factor is not None:
        model_error = normal(problem.error_factor.shape[1], count, columns) * np.sqrt(spread)
        field += structure.error * (problem.error_factor @ model_error.reshape(len(model_error), -1))
    blocks = spectrum.blocks if varies else (slice(None),)
    field = field.reshape(-1, count, columns)
    simulated = spectrum.projected(field) if varies else np.tensordot(spectrum.to_components.T, field, axes=1)
    simulated += error * normal(*simulated.shape)
    correction = filters * coefficients[:, None, :] - share * simulated
    for rows in row_blocks(problem.gain.shape[1]):
        for block, back in zip(blocks, np.split(to_sources(rows), len(blocks), axis=1), strict=True):
            prior[rows, :, block] += np.tensordot(back, correction[:, :, block], axes=1)
    flat = prior.transpose(1, 0, 2)
    if varies and spectrum.modes is not None:
        flat = flat @ spectrum.modes.from_modes[samples].T
    return np.asarray(flat)
