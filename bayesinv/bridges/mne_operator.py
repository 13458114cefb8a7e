"""The posterior mean as an inverse operator of MNE-Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array
from bayesinv.bridges.mne_forward import lead_field_of
from bayesinv.bridges.mne_origin import Origin
from bayesinv.problem.noise import Noise

if TYPE_CHECKING:
    import mne

    from bayesinv.posterior.posterior import Posterior


LAMBDA2 = 1.0 / 9.0
"""The lambda2 that MNE-Python applies by default, at which an exported operator gives the posterior mean."""

MIN_FITTED_SHARE = 1e-12
"""Smallest fitted share of a component in an exported operator; it is also the distance kept from 1."""


def to_inverse_operator(
    posterior: Posterior,
    *,
    info: mne.Info | None = None,
    forward: mne.Forward | None = None,
    noise_cov: mne.Covariance | None = None,
) -> mne.minimum_norm.InverseOperator:
    """Return MNE-Python's inverse operator that carries the learned λ, averaged over its posterior.

    `mne.minimum_norm.apply_inverse(evoked, operator, method="MNE")` then gives the posterior mean, at MNE-Python's
    default lambda2 = 1/9. The mean is linear in the recording, `mean = L @ whitened`, whatever is averaged over; with
    the fit G L = U diag(share) Uᵀ the operator stores

        sing² = lambda2 share / (1 - share),   eigen fields Uᵀ,   weighted eigen leads L U (sing² + lambda2) / sing

    so that the residual that MNE-Python returns is that of the posterior mean. Its noise covariance includes the
    learned noise scale. With hyperparameters fixed, "sLORETA" divides by the root of prior minus posterior variance
    and "dSPM" by the noise's share of the mean, as they should; with learned ones both hold on average. A file of
    MNE-Python's keeps single precision.

    λ is that of the average's noise, which has `nave` trials. Applied to a single trial by `apply_inverse_epochs(...,
    nave=1)` lambda2 wants to be `nave` times as large, for the noise's variance is.

    info, forward, noise_cov : what the problem was made from; needed where it does not hold them, as after loading
        from disk

    Raises
    ------
    ValueError
        If the objects are not known or not those of the problem, or EEG has a custom reference, which MNE-Python's
        inverse methods refuse.
    """
    import mne

    problem = posterior.problem
    origin = problem.origin if isinstance(problem.origin, Origin) else None
    info = info if info is not None or origin is None else origin.info
    forward = forward if forward is not None or origin is None else origin.forward
    noise_cov = noise_cov if noise_cov is not None or origin is None else origin.noise_cov
    if info is None or forward is None or noise_cov is None:
        raise ValueError(
            "the MNE-Python objects behind this posterior are not known (they are not archived, and plain arrays have "
            "none); give to_inverse_operator(info=, forward=, noise_cov=)"
        )
    if problem.field is None or problem.noise is None or problem.lead_field is None:
        raise ValueError("an inverse operator wants a problem that was made by from_mne")
    names = problem.field.names
    missing = [name for name in names if name not in info["ch_names"] or name not in noise_cov.ch_names]
    if missing:
        raise ValueError(f"info or noise_cov lack {len(missing)} channels of the problem, such as {missing[0]}")
    picked = mne.pick_info(info, [info["ch_names"].index(name) for name in names], verbose="ERROR")
    if picked["custom_ref_applied"] and "eeg" in problem.noise.kinds:
        raise ValueError(
            "MNE-Python's inverse methods refuse EEG with a custom reference; set the average reference as a "
            'projector (evoked.set_eeg_reference("average", projection=True)) before from_mne'
        )
    with mne.use_log_level("ERROR"):
        given = lead_field_of(forward, names, problem.noise.kinds, problem.orientation)
        ours = problem.lead_field.gain
        if given.gain.shape != ours.shape or not np.allclose(
            given.gain, ours, rtol=1e-4, atol=1e-6 * np.abs(ours).max()
        ):
            raise ValueError("the forward solution is not the one that this problem was made from")
        if problem.axes == 3 and forward["surf_ori"]:
            forward = mne.convert_forward_solution(forward, surf_ori=False)
        operator = mne.minimum_norm.make_inverse_operator(
            picked,
            forward,
            noise_cov,
            loose=0.0 if problem.axes == 1 else 1.0,
            fixed=problem.axes == 1,
            depth=None,
            rank=_mne_ranks(problem.noise),
        )
        theirs, _ = mne.cov.compute_whitener(operator["noise_cov"], pca=True)
    averages = problem.noise.averages
    # Both whiteners whiten the same noise, so they differ by a rotation.
    rotation = theirs @ problem.noise.covariance @ problem.noise.whitener.T / np.sqrt(averages)
    if rotation.shape[0] != rotation.shape[1] or not np.allclose(
        rotation.T @ rotation, np.eye(len(rotation)), atol=1e-5
    ):
        raise ValueError("the noise covariance is not the one that this problem was made from")
    fields, share, leads = _factors(posterior)
    sing = np.sqrt(LAMBDA2 * share / (1 - share))
    noise = float(np.sqrt(posterior.mixture.weights @ posterior.mixture.noise**2))
    rank, count = len(share), len(names)
    eigen_fields = np.zeros((count, count))
    eigen_fields[:rank] = (_nearest_rotation(rotation) @ fields).T @ _selection(operator["noise_cov"]["eig"] > 0)
    # MNE-Python multiplies the leads by the root of the prior variances, and eLORETA reads these variances.
    # Currents and noise vary alike over time; the operator has both at a variance of one.
    over_time = float(np.mean(posterior.mixture.structures[0].time_variances(problem)))
    prior = posterior.prior_variance.ravel() * (LAMBDA2 * averages / over_time)
    eigen_leads = np.zeros((len(leads), count))
    eigen_leads[:, :rank] = leads * (np.sqrt(averages) * noise * sing / share) / np.sqrt(prior)[:, None]
    operator["eigen_fields"] = _named(eigen_fields, list(names))
    operator["eigen_leads"] = _named(eigen_leads, [])
    operator["sing"] = np.concatenate([sing, np.zeros(count - rank)])
    operator["source_cov"]["data"] = prior
    for part in ("data", "eig"):
        operator["noise_cov"][part] = operator["noise_cov"][part] * noise**2
    return operator


def _named(table: Array, columns: list[str]) -> dict[str, Any]:
    """Return a matrix in MNE-Python's form."""
    return {"data": table, "row_names": [], "col_names": columns, "nrow": len(table), "ncol": table.shape[1]}


def _mne_ranks(noise: Noise) -> dict[str, int]:
    """Ranks by MNE-Python's names: MEG with one kind of coil is named by that kind."""
    coils = sorted({kind for kind in noise.kinds if kind != "eeg"})
    return {coils[0] if name == "meg" and len(coils) == 1 else name: rank for name, rank in noise.ranks.items()}


def _selection(mask: NDArray[np.bool_]) -> Array:
    """Return the matrix (component, sensor) that selects the components of a mask (sensor,)."""
    return np.eye(len(mask))[mask]


def _nearest_rotation(matrix: Array) -> Array:
    """Return the orthogonal matrix nearest to one that is orthogonal up to rounding."""
    left, _, right = np.linalg.svd(matrix)
    return np.asarray(left @ right)


def _factors(posterior: Posterior) -> tuple[Array, Array, Array]:
    """Decompose the posterior mean L as a function of the whitened recording.

    Returns U (component, component), the share of each that the mean fits, in (0, 1) and descending, and L U
    (amplitude, component).
    """
    mean = posterior.kernel
    fit = posterior.problem.gain @ mean
    share, fields = np.linalg.eigh((fit + fit.T) / 2)
    leads = mean @ fields
    order = np.argsort(share)[::-1]
    return fields[:, order], np.clip(share[order], MIN_FITTED_SHARE, 1 - MIN_FITTED_SHARE), leads[:, order]
