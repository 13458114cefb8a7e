"""Setting of an evaluation: heads, lead fields, noise, truths and problems of a configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.criticism.prior_draws import Prior
from bayesinv.evaluation.configuration import PRIOR, Cell, Configuration
from bayesinv.evaluation.truths import TRUTHS
from bayesinv.forward import template_lead_field
from bayesinv.forward.leadfield import LeadField
from bayesinv.head import template, template_cortex, template_mesh
from bayesinv.head.conductivities import ANISOTROPY
from bayesinv.head.head import Head
from bayesinv.head.parcels import parcels
from bayesinv.memory import Memory
from bayesinv.problem.model_error import ForwardError, forward_error
from bayesinv.problem.problem import Problem
from bayesinv.simulation.inverse_crime import same_lead_field
from bayesinv.simulation.noise import NoiseProcess, background_noise, blend, correlated_covariance, gaussian_noise
from bayesinv.simulation.recording import simulate as record
from bayesinv.simulation.truth import Truth
from bayesinv.simulation.truths import prior_truth
from bayesinv.simulation.world import draw_world

SPHERE_RADII, SPHERE_ECCENTRICITY = (0.078, 0.082, 0.09), 0.95
"""Radii of the sphere head, m; and eccentricity of the outermost source in its innermost sphere."""

SETTINGS = Memory("lead fields of evaluations")


def rng_of(*words: Any) -> np.random.Generator:
    """Return a generator seeded by words, so that it does not depend on the order in which cells are run."""
    return np.random.default_rng(int(hashlib.sha256(repr(words).encode()).hexdigest()[:16], 16))


@dataclass(frozen=True, eq=False)
class _Setting:
    """What all cells of a configuration share: the inversion's lead field and head, and the sources of every region."""

    lead_field: LeadField
    head: Head
    regions: Mapping[str, Index]


@SETTINGS.keep
def setting_of(configuration: Configuration) -> _Setting:
    """Return the lead field, head and regions of a configuration's inversion, computed once."""
    grid, sensors = template_cortex.sources(configuration.spacing), template_cortex.electrodes(configuration.electrodes)
    if configuration.head == "sphere":
        from bayesinv.forward.sphere import lead_field as sphere

        # The cortex of the template, scaled to fit into a sphere.
        centre = (grid.positions.max(axis=0) + grid.positions.min(axis=0)) / 2
        scaled = grid.positions - centre
        scaled *= SPHERE_ECCENTRICITY * SPHERE_RADII[0] / np.linalg.norm(scaled, axis=1).max()
        radial = sensors.positions - centre
        radial *= SPHERE_RADII[-1] / np.linalg.norm(radial, axis=1, keepdims=True)
        grid, sensors = replace(grid, positions=scaled), replace(sensors, positions=radial)
        head = Head.spheres(SPHERE_RADII, [float(np.mean(one)) for one in template.CONDUCTIVITIES], template.NAMES)
        gain = sphere(head, sensors, grid)
    else:
        head = template.head()
        gain = template_lead_field.lead_field(grid, sensors)
    labels = parcels(grid, min(configuration.regions, len(grid)))
    regions = {f"region {k}": np.flatnonzero(labels == k) for k in range(labels.max() + 1)}
    return _Setting(gain.rereference("average").fixed(), head, regions)


def error_of(configuration: Configuration, progress: bool = False) -> ForwardError:
    """Return the error of the inversion's lead field, the same for all cells, as an analyst would have it.

    progress : show a progress bar
    """
    return SETTINGS.recall("forward error", configuration, lambda: _error_of(configuration, progress))


def _error_of(configuration: Configuration, progress: bool) -> ForwardError:
    setting = setting_of(configuration)
    inversion, detailed = setting.lead_field, configuration.error_solver == "fem"
    head = template_mesh.finite_elements("coarse") if detailed else setting.head
    anisotropy = ANISOTROPY if detailed else None
    draws, rng = configuration.draws, rng_of("forward error")
    where = inversion.sensors, inversion.sources
    return forward_error(head, *where, draws, rng, anisotropy=anisotropy, progress=progress)


@SETTINGS.keep
def world_of(configuration: Configuration, seed: int) -> LeadField:
    """Return the lead field of the truths of a seed."""
    inversion = setting_of(configuration).lead_field
    if configuration.world == "inversion":
        return inversion
    options: dict[str, Any] = {"spacing": configuration.truth_spacing, "resolution": configuration.resolution}
    return draw_world(rng_of("world", seed), sensors=inversion.sensors, avoid=inversion.sources, **options).lead_field


def prepared(configuration: Configuration, seed: int) -> bool:
    """Compute the world of a seed; return whether its lead field is the inversion's."""
    return same_lead_field(world_of(configuration, seed), setting_of(configuration).lead_field)


def _times(configuration: Configuration) -> Array:
    """Return the sample times of baseline and response, s: (time,)."""
    before = round(configuration.baseline * configuration.rate)
    after = round(configuration.duration * configuration.rate)
    return np.arange(-before, max(after, 1)) / configuration.rate


def _noise(configuration: Configuration, world: LeadField) -> NoiseProcess:
    """Return the noise of a configuration, at the sensors of a world."""
    if configuration.noise == "white":
        return gaussian_noise(_averaged(np.eye(len(world.sensors))))
    exponent = 1.0 if configuration.noise == "brain" else 0.0
    sensor = gaussian_noise(_averaged(correlated_covariance(world.sensors)), exponent=exponent)
    if configuration.noise == "correlated":
        return sensor
    return blend([replace(sensor, names=world.sensors.names), background_noise(world)], [0.5, 0.5])


def _averaged(covariance: Array) -> Array:
    """Return the covariance of electrodes against their average."""
    centred = covariance - covariance.mean(axis=0)
    return np.asarray(centred - centred.mean(axis=1, keepdims=True))


def scene_of(configuration: Configuration, cell: Cell) -> tuple[Truth, Problem, float]:
    """Return truth, problem of the inversion, and power SNR of a cell; they are the same for all methods."""
    times, inversion = _times(configuration), setting_of(configuration).lead_field
    if cell.truth.startswith(PRIOR):
        return _drawn_from_prior(configuration, cell, times, inversion)
    world = world_of(configuration, cell.seed)
    # Other ratios have the same truth, and the same noise at another scale.
    rng = rng_of(cell.truth, cell.seed)
    truth = TRUTHS[cell.truth](world.sources, times, rng)
    ratio: dict[str, Any] = {cell.how: cell.loud} if truth.current.any() else {}
    simulation = record(truth, world, _noise(configuration, world), rng, **ratio)
    return truth, simulation.problem(inversion), simulation.snr


def _drawn_from_prior(
    configuration: Configuration, cell: Cell, times: Array, inversion: LeadField
) -> tuple[Truth, Problem, float]:
    """Return a truth drawn from a model's prior, the problem of its recording, and the power SNR."""
    model, rng, after = cell.truth.removeprefix(PRIOR), rng_of(cell.truth, cell.seed), times[times >= 0]
    # Only the sizes of its recording and baseline, and its whitener, are used.
    field = 1e-6 * _averaged(np.eye(len(inversion.sensors))) @ rng.standard_normal((len(inversion.sensors), len(times)))
    before = times < 0
    placeholder = Problem.from_arrays(
        inversion.gain[:, :, 0],
        field[:, ~before],
        _averaged(1e-12 * np.eye(len(field))),
        times=after,
        baseline=field[:, before] if before.any() else None,
        sources=inversion.sources,
        sensors=inversion.sensors,
    )
    prior = Prior.of(model, placeholder, 1, rng)
    current, problem = prior.truth(0, rng)
    return prior_truth(inversion.sources, current, after, model=model), problem, float(prior.hyper["snr"][0]) ** 2
