"""Tikhonov regularisation: the minimum-norm estimate at any λ, or at one chosen from the recording.

    x* = argmin ‖y - G x‖² + λ ‖x‖²_{D⁻¹} = D Gᵀ (G D Gᵀ + λ I)⁻¹ y

With `G D Gᵀ = U diag(s) Uᵀ` every quantity that a criterion for λ uses is a sum over components of the recording's
powers `‖uᵢᵀ Y‖²`; one eigendecomposition serves all λ.

References: Hansen (1992), SIAM Rev. 34, 561-580; Hansen (2001), in Computational Inverse Problems in
Electrocardiology, 119-142; Golub, Heath & Wahba (1979), Technometrics 21, 215-223.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.arguments import of_type
from bayesinv.axes import Array, one_of, real
from bayesinv.classical.criteria import LAMBDA_CRITERIA, Scan, positive_lambda
from bayesinv.classical.estimate import Estimate, Filter
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.prior.currents import depth_weights
from bayesinv.problem.problem import EXPECTED_SNR, Problem


def relative_variances(problem: Problem, weights: float | ArrayLike | None) -> Array | None:
    """Diagonal of D (amplitude,) from a depth exponent or an array (source,) or (amplitude,); None for ones.

    Raises
    ------
    ValueError
        If the exponent lies outside [0, 1], or the array has another length or is not positive.
    """
    if weights is None:
        return None
    if np.ndim(weights) == 0:
        return depth_weights(problem, float(weights))  # type: ignore[arg-type]
    table = real("weights", weights, "source")
    if not (table > 0).all():
        raise ValueError(f"weights must be positive, but source {int(np.argmin(table))} has {table.min():.3g}")
    if len(table) == problem.source_count:
        table = np.repeat(table, problem.axes)
    if len(table) != problem.gain.shape[1]:
        raise ValueError(f"weights has source = {len(table)}, but the problem has source = {problem.source_count}")
    return table


def tikhonov(
    problem: Problem,
    lam: float | str = "l-curve",
    weights: float | ArrayLike | None = None,
    *,
    snr: float = EXPECTED_SNR,
    noise: float = 1.0,
) -> Estimate:
    """Return the Tikhonov (weighted minimum-norm) estimate of the currents.

        x* = argmin ‖y - G x‖² + λ ‖x‖²_{D⁻¹} = D Gᵀ (G D Gᵀ + λ I)⁻¹ y

    It is the posterior mean at fixed scales, with λ = noise² / variance.

    problem : whitened gain and recording
    lam : λ in 1/(A m)², or how to choose it from the recording:
        "l-curve" the corner of the L-curve (Hansen 1992), "gcv" generalised cross-validation (Golub, Heath &
        Wahba 1979), "discrepancy" a residual as large as the noise (Morozov 1966), "evidence" the most probable
        ratio of noise to source variance (MacKay 1992; over both where the problem has a baseline, at the noise scale
        `noise` where it has none), "snr" MNE-Python's 1/SNR²
    weights : diagonal of D: None for ones, a depth exponent in [0, 1], or (source,) or (amplitude,)
    snr : amplitude signal-to-noise ratio that "snr" expects
    noise : scale of the whitened noise; 1 trusts the covariance

    Warns where a choice is doubtful (no corner, several corners, a corner at the edge, a flat minimum), naming the
    reason and the value used.

    Raises
    ------
    ValueError
        If λ is not positive and finite, no choice has that name, the discrepancy cannot be attained, or the weights
        do not fit.
    """
    of_type("problem", problem, Problem, "from_mne or Problem.from_arrays makes one")
    if isinstance(lam, str):
        one_of("choice of lam", lam, LAMBDA_CRITERIA, ", or give a number")
    else:
        positive_lambda(lam)
    if not 0 < noise < np.inf:
        raise ValueError(f"noise is {noise}, but the scale of the noise must be positive and finite")
    spectrum = Spectrum.of(problem, relative_variances(problem, weights))
    scan = Scan.of(problem, spectrum.values, np.einsum("ct,ct->c", spectrum.coefficients, spectrum.coefficients), noise)
    value, chosen = scan.choose_or_check(lam, snr)
    shrunk = 1.0 / (spectrum.values + value)
    inverse = (spectrum.to_components * shrunk) @ spectrum.to_components.T
    operator = Filter(problem.gain, spectrum.weights, inverse)
    projected = spectrum.to_components @ (shrunk[:, None] * spectrum.coefficients)
    flat = (problem.gain.T @ projected) * spectrum.weights[:, None]
    return Estimate(
        problem=problem,
        method="MNE",
        current=flat if problem.axes == 1 else flat.reshape(-1, problem.axes, flat.shape[1]),
        unit="A m",
        lam=value,
        chosen=chosen,
        scan=scan,
        fitted=problem.recording - value * projected,
        operator=operator,
    )
