"""MNE-Python's objects of a real recording, and of a toy."""

from __future__ import annotations

import mne
import numpy as np
from mne.minimum_norm import make_inverse_operator

from bayesinv import LeadField, Sensors, Sources
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior

LAMBDA2 = 1 / 9


def decimated(evoked, step=25):
    """Every `step`-th sample, for speed."""
    return evoked.copy().decimate(step)


def matching(problem, evoked):
    """The same channels and samples, for MNE-Python's own functions."""
    return evoked.copy().pick(list(problem.field.names)).crop(problem.times[0], problem.times[-1])


def deviation(found, wanted):
    """Largest difference, relative to the largest number wanted."""
    return np.abs(found - wanted).max() / np.abs(wanted).max()


def classical(problem, evoked, forward, noise_cov):
    fixed = problem.axes == 1
    info = matching(problem, evoked).info
    return make_inverse_operator(info, forward, noise_cov, loose=0.0 if fixed else 1.0, fixed=fixed, depth=None)


def given(problem, scale=1.0, noise=1.0, structures=(None,), weights=None):
    """A posterior with these hyperparameters, one node per structure or scale."""
    scale, noise = np.atleast_1d(scale) * problem.scale_guess, np.atleast_1d(noise).astype(float)
    count = max(len(structures), len(scale))
    weights = np.full(count, 1 / count) if weights is None else np.asarray(weights)
    variance, noise = np.broadcast_to(scale**2, count), np.broadcast_to(noise, count)
    which = np.arange(count) if len(structures) > 1 else np.zeros(count, dtype=int)
    hyper = {"lambda": noise**2 / variance, "snr": np.sqrt(variance * problem.signal_power) / noise}
    return Posterior(
        problem,
        "given",
        "given",
        Mixture(weights, variance, noise, which, tuple(structures)),
        Hyper(hyper, weights, hyper),
        None,
    )


def toy(rng, kinds=("eeg",) * 7 + ("mag",) * 4, reference=True, width=0.07):
    """A recording, forward solution and covariance of a few sensors and two times six sources."""
    names = [f"{kind} {i}" for i, kind in enumerate(kinds)]
    info = mne.create_info(names, 100.0, list(kinds))
    directions = rng.normal(size=(len(kinds), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for channel, direction in zip(info["chs"], directions, strict=True):
        channel["loc"][:3] = 0.1 * direction
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform("meg", "head", np.eye(4))
    spread = np.where([kind == "eeg" for kind in kinds], 1e-6, 1e-13)
    evoked = mne.EvokedArray(spread[:, None] * rng.normal(size=(len(kinds), 40)), info, tmin=-0.2, nave=1)
    if reference and "eeg" in kinds:
        evoked.set_eeg_reference("average", projection=True)
    normals = rng.normal(size=(12, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    sources = Sources(
        width * normals, normals, vertices=np.tile(np.arange(6), 2), hemispheres=np.repeat([0, 1], 6), subject="toy"
    )
    gain = (spread / 1e-8)[:, None, None] * rng.normal(size=(len(kinds), 12, 3))
    forward = LeadField(gain, Sensors(tuple(names), kinds, 0.1 * directions), sources).to_mne(evoked.info)
    noise_cov = mne.Covariance(np.diag(spread**2), names, [], [], 100)
    return evoked, forward, noise_cov
