"""Recordings replicated from posteriors with focal sources, draw by draw, and what a component leaves given all others.

Names are those of `posterior.focal`: in a mode of time the field of currents, and of what fields are off by, is

    A s + d,   s ~ Normal(m, B),   d | s ~ Normal(S D⁻¹ (y - A s), noise² S D⁻¹),   S = D - noise²

given the recording; outside of the modes there is noise alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bayesinv.axes import Array
from bayesinv.posterior.focal import FocalGaussians, FocalNode, nodes_of
from bayesinv.posterior.posterior import Posterior


def focal_draws(posterior: Posterior, count: int) -> Iterator[tuple[FocalGaussians, FocalNode]]:
    """Yield equally weighted draws of a posterior with focal sources, at even steps.

    Raises
    ------
    ValueError
        If it is an average with models that have none.
    """
    nodes, weights = nodes_of(posterior.conditionals), posterior.mixture.weights
    below = np.cumsum(weights / weights.sum())
    for n in np.searchsorted(below, (np.arange(count) + 0.5) / count).clip(0, len(weights) - 1):
        if int(n) not in nodes:
            raise ValueError(
                f"{posterior.model!r} is an average of models with and without focal sources; ask each of these"
            )
        yield nodes[int(n)]


def inferred_field(gaussians: FocalGaussians, node: FocalNode, rng: np.random.Generator) -> Array:
    """Draw the field of currents given the recording, whitened: (component, time)."""
    recording, courses = gaussians.recording, node.courses
    lower = np.linalg.cholesky(courses.covariances)
    drawn = courses.means + np.einsum("kcd,kd->kc", lower, rng.standard_normal(courses.means.shape))
    focal = recording.explained(node.fields, drawn.T)
    share = 1 - node.noise**2 / recording.spread(node.variance, node.noise, node.error)
    rest = share * (recording.coefficients - focal) + node.noise * np.sqrt(share) * rng.standard_normal(share.shape)
    return _at_samples(gaussians, focal + rest)


def new_field(gaussians: FocalGaussians, node: FocalNode, rng: np.random.Generator) -> Array:
    """Draw the field of currents from their prior at the active sources of a draw, whitened: (component, time)."""
    recording = gaussians.recording
    courses = np.sqrt(recording.powers) * rng.standard_normal((node.fields.shape[1], len(recording.powers)))
    rest = recording.spread(node.variance, node.noise, node.error) - node.noise**2
    focal = recording.explained(node.fields, courses)
    return _at_samples(gaussians, focal + np.sqrt(rest) * rng.standard_normal(rest.shape))


def _at_samples(gaussians: FocalGaussians, coefficients: Array) -> Array:
    return gaussians.recording.across(gaussians.spectrum.from_components, coefficients, gaussians.over)


def _to_white(gaussians: FocalGaussians) -> Array:
    """From coefficients to components of unit noise: (component, block × component)."""
    spectrum = gaussians.spectrum
    if len(spectrum.decompositions) == 1:
        return spectrum.to_components
    # Rows of L U over those of U.
    spreads = [np.linalg.norm(one.from_components, axis=1) for one in spectrum.decompositions]
    pairs = zip(spectrum.decompositions, spreads, strict=True)
    return np.hstack([spread[:, None] * one.to_components for one, spread in pairs])


def focal_left_out(
    gaussians: FocalGaussians, node: FocalNode, along: Array | None = None
) -> tuple[Array, Array, Array]:
    """Leave-one-out residuals and precisions at a draw, as `left_out` gives them, in the modes of courses.

        q = diag(aᵀ U D⁻¹ Uᵀ a) - diag(aᵀ U D⁻¹ A B Aᵀ D⁻¹ Uᵀ a),   r = aᵀ U D⁻¹ (y - A m)

    along : (component, direction); None takes the components themselves

    Returns residuals and precisions (direction, mode), and r² / q summed over what lies outside of the modes
    (direction,), where there is noise alone.
    """
    recording, problem = gaussians.recording, gaussians.spectrum.problem
    basis = _to_white(gaussians)
    white, lengths = problem.white_recording, np.ones(problem.components)
    if along is not None:
        basis, white, lengths = along.T @ basis, along.T @ white, np.sum(along**2, axis=0)
    spread = recording.spread(node.variance, node.noise, node.error)
    means, root = node.courses.means, np.linalg.cholesky(node.courses.covariances)
    precision = recording.across(basis**2, 1 / spread)
    for rows, some in recording.parts:
        fields = basis[:, rows] @ (node.fields[rows] / spread.T[some, :, None])
        precision[:, some] -= np.sum((fields @ root[some]) ** 2, axis=2).T
    residual = recording.across(basis, (recording.coefficients - recording.explained(node.fields, means.T)) / spread)
    outside = np.sum(white**2, axis=1) - np.sum(recording.across(basis, recording.coefficients) ** 2, axis=1)
    scaled = np.divide(np.maximum(outside, 0.0), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return residual, precision, scaled / node.noise**2
