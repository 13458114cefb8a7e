"""Classical estimates by name: minimum norm, dSPM, sLORETA, eLORETA, the LCMV beamformer and Champagne.

All are of one form: `weights_k Gain_kᵀ inverse`, a few weights per source times one matrix of the size of the sensors.
With `convention="mne"` they are MNE-Python's, with its depth weighting, loose orientation and scaling.

References: Hämäläinen & Ilmoniemi (1994), Med. Biol. Eng. Comput. 32, 35-42; Dale et al. (2000), Neuron 26, 55-67;
Pascual-Marqui (2002), Methods Find. Exp. Clin. Pharmacol. 24D, 5-12; Pascual-Marqui (2007), arXiv:0710.3341;
Van Veen et al. (1997), IEEE Trans. Biomed. Eng. 44, 867-880; Sekihara & Nagarajan (2008), Adaptive Spatial Filters.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.arguments import of_type
from bayesinv.axes import one_of
from bayesinv.classical.blocks import divide_rows
from bayesinv.classical.champagne import champagne
from bayesinv.classical.criteria import LAMBDA_CRITERIA, Scan, positive_lambda
from bayesinv.classical.eloreta import eloreta
from bayesinv.classical.estimate import Estimate, Filter, estimate_of
from bayesinv.classical.lcmv import lcmv
from bayesinv.classical.source_prior import source_prior
from bayesinv.classical.standardised import noise_power, standardised
from bayesinv.problem.problem import EXPECTED_SNR, Problem

METHODS = ("LCMV", "MNE", "champagne", "dSPM", "eLORETA", "sLORETA")
PICKS = ("max-power", "normal", "pooled", "vector")


def baseline(
    problem: Problem,
    method: str = "MNE",
    lam: float | str = "snr",
    *,
    depth: float | str | None = "auto",
    loose: float | str | None = "auto",
    convention: str | None = None,
    pick: str = "pooled",
    snr: float = EXPECTED_SNR,
    covariance: ArrayLike | str | None = None,
    regularise: float = 0.05,
    normalise: str | None = "auto",
) -> Estimate:
    """Return a classical estimate of the currents.

    problem : whitened gain and recording
    method : "MNE" (A m), "dSPM" (in units of the noise), "sLORETA" (standardised), "eLORETA" (A m), "LCMV" or
        "champagne" (A m), which learns a variance per source and the noise from the recording, with its baseline where
        there is one, and takes none of the options but `pick`
    lam : λ in 1/(A m)² for a prior covariance D with trace(G D Gᵀ) = trace(G Gᵀ), or how to choose it (see
        `tikhonov`); "snr" is 1/SNR² of the signal power. With `convention="mne"` a number is MNE-Python's lambda2
    depth : exponent of the depth weighting; None for none; "auto" is 0.8 with `convention="mne"` and none otherwise.
        eLORETA and LCMV have none
    loose : variance of tangential currents relative to normal ones with free orientation; "auto" is 0.2 with
        `convention="mne"` on a surface whose normals and hemispheres are known, and 1 otherwise
    convention : "mne" for the numbers of MNE-Python's `apply_inverse` and `make_lcmv`: its depth weighting of the
        unwhitened gain, sLORETA divided by one number per source, eLORETA stopped after 20 iterations. None weights
        depth by the whitened gain, standardises sLORETA by a source's 3 x 3 block and runs eLORETA until it converges
    pick : with free orientation "pooled" gives the length of the current, "normal" its part along the normal,
        "vector" its x, y, z; "max-power" (LCMV) the direction of largest power
    snr : amplitude signal-to-noise ratio that "snr" expects
    covariance : LCMV: of the recording with the response, (sensor, sensor) in SI units or (component, component)
        whitened; "recording" takes that of the problem's recording
    regularise : LCMV: share of the mean eigenvalue that is added to that covariance
    normalise : LCMV: None for unit gain (A m), "unit-noise-gain", "unit-noise-gain-invariant" or "nai"; "auto" is
        MNE-Python's default, "unit-noise-gain-invariant"

    Raises
    ------
    ValueError
        If there is no such method, convention, pick or choice, λ is not positive and finite, `loose` or `pick` want
        axes or normals that the problem lacks, LCMV has no covariance or a singular one, or Champagne is given an
        option that it does not have, or a recording that is zero.
    """
    one_of("baseline", method, METHODS)
    of_type("problem", problem, Problem, "from_mne or Problem.from_arrays makes one")
    if convention is not None:
        one_of("convention", convention, ("mne",), ", or None")
    mne = convention == "mne"
    one_of("pick", pick, PICKS)
    if pick == "max-power" and (method != "LCMV" or problem.axes == 1):
        raise ValueError("pick 'max-power' wants LCMV with free orientation; use 'pooled', 'normal' or 'vector'")
    if method == "champagne":
        _refuse(lam=lam, depth=depth, loose=loose, convention=convention, snr=snr)
        _refuse(covariance=covariance, regularise=regularise, normalise=normalise)
        return champagne(problem, pick)
    if method == "LCMV":
        return lcmv(problem, covariance, regularise, normalise, depth, pick, mne)
    if covariance is not None:
        raise ValueError(f"covariance is for LCMV; {method} has its source covariance from depth and loose")
    if isinstance(lam, str):
        one_of("choice of lam", lam, LAMBDA_CRITERIA, ", or give a number")
    else:
        lam = positive_lambda(lam) * (problem.signal_power if mne else 1.0)
    prior = source_prior(problem, None if method == "eLORETA" else depth, loose, mne)
    if pick == "vector" and prior.rows == 1:
        raise ValueError("pick 'vector' wants free orientation (and loose > 0); here there is one current per source")
    values, vectors, weights = prior.spectrum()
    scan = Scan.of(problem, values, np.sum((vectors.T @ problem.recording) ** 2, axis=1))
    value, chosen = scan.choose_or_check(lam, snr)
    if method == "eLORETA":
        values, vectors, weights = eloreta(prior, value, mne)
        scan = Scan.of(problem, values, np.sum((vectors.T @ problem.recording) ** 2, axis=1))
    inverse = (vectors / (values + value)) @ vectors.T
    minimum_norm = Filter(problem.gain, weights, inverse)
    fitted = problem.recording - value * (inverse @ problem.recording)
    unit = "A m"
    if method == "dSPM":
        weights, unit = divide_rows(weights, noise_power(minimum_norm, prior.rows), prior.rows), ""
    elif method == "sLORETA":
        weights, unit = standardised(minimum_norm, prior, value, mne), ""
    return estimate_of(problem, method, weights, inverse, unit, value, chosen, scan, fitted, pick, prior.rows)


def _refuse(**given: Any) -> None:
    """Raise if an option that Champagne does not have was given."""
    for name, value in given.items():
        default = signature(baseline).parameters[name].default
        if value is not None and (default is None or np.ndim(value) or value != default):
            raise ValueError(
                f"{name} was given, but champagne has no {name}: it learns a variance per source and that of the noise "
                f"from the recording; leave {name} out"
            )
