"""Heads: what is drawn of them, and that currents carry what is not known of the skull."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import kstest, truncnorm

import bayesinv as bi
from bayesinv.forward import sphere
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.head.head import Head
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.inference.active_head import head_beside, head_drawn

RADII = (0.08, 0.084, 0.09)
SKULL = (0.004, 0.03)


def test_a_head_and_strengths_are_drawn_from_their_density():
    """A density of two coordinates and a level, of which the first coordinate and the level are nearly one."""
    rng, levels = np.random.default_rng(0), np.arange(-3, 4)

    def log_density(head, rise):
        level = state + rise
        if not -3 <= level <= 3:
            return -np.inf
        # What is beyond the prior, which is normal between its ends.
        return -8 * (head[0] - level / 2) ** 2 - 2 * (head[1] - 0.5) ** 2

    head, state, found = np.zeros(2), 0, []
    for _ in range(6000):
        head, rise = head_drawn(head, log_density, rng)
        state += rise
        found.append((*head, state))
    found = np.array(found)
    grid = np.linspace(-2, 2, 401)
    joint = -8 * (grid[:, None] - levels / 2) ** 2 - 0.5 * grid[:, None] ** 2
    mass = np.exp(joint).sum(axis=0)
    # Draws are worth a tenth of their number, at the least.
    assert_allclose(np.bincount(found[:, 2].astype(int) + 3) / 6000, mass / mass.sum(), atol=4 * 0.5 / np.sqrt(600))
    # Precisions 1 and 4 of prior and likelihood.
    mean, sd = 0.4, np.sqrt(1 / 5)
    wanted = truncnorm((-2 - mean) / sd, (2 - mean) / sd, mean, sd)
    assert kstest(found[::10, 1], wanted.cdf).pvalue > 1e-3


def test_heads_that_are_proposed_lie_around():
    heads = np.array([head_beside(np.array([0.5, -1.0]), np.random.default_rng(seed)) for seed in range(2000)])
    apart = heads - [0.5, -1.0]
    assert np.abs(apart.mean(axis=0)).max() < 4 * apart.std() / np.sqrt(2000)
    assert 0.02 < np.median(np.abs(apart)) < 0.5


@pytest.mark.slow
def test_a_current_carries_what_is_not_known_of_the_skull():
    """The true skull conducts less than that of the head which is believed in, within what is thought possible."""
    rng = np.random.default_rng(4)
    places = geodesic_sphere(6).vertices
    sensors = Sensors.electrodes([f"E{i}" for i in range(40)], 0.09 * places[places[:, 2] > -0.2][::5][:40])
    normals = geodesic_sphere(4).vertices
    sources = Sources(0.062 * normals[normals[:, 2] > 0], normals[normals[:, 2] > 0])
    believed = Head.spheres(RADII, (0.33, 0.025, 0.33))
    true = Head.spheres(RADII, (0.33, 0.01, 0.33))
    gain, field = (sphere.lead_field(one, sensors, sources).rereference("average") for one in (believed, true))
    at = int(np.argmax(sources.positions[:, 2]))
    times = np.arange(30) / 200
    course = 20e-9 * np.exp(-0.5 * ((times - 0.075) / 0.02) ** 2)
    clean = np.outer(field.fixed().gain[:, at, 0], course)
    noise = 0.1 * np.abs(clean).max()
    centred = np.eye(40) - 1 / 40
    recording, baseline = (noise * centred @ rng.standard_normal((40, count)) for count in (30, 40))
    problem = bi.Problem.from_arrays(
        gain.fixed().gain[:, :, 0], clean + recording, noise**2 * centred, times=times, baseline=baseline,
        sources=sources, sensors=sensors,
    )  # fmt: skip
    error = bi.forward_error(
        believed, sensors, sources, 12, ranges={"skull": SKULL}, displacement=0.0, coregistration=(0.0, 0.0)
    )
    assert len(error.modes) <= 2
    bounds = {}
    for name, one in {"taken as known": problem, "uncertain": error.apply(problem)}.items():
        found = bi.infer("dipoles", one, chains=2, sweeps=200, warm=80, rng=np.random.default_rng(1))
        focus = found.foci[0]
        assert focus.place == at
        assert focus.probability > 0.99
        low, high = focus.current.interval(0.9)
        peak = int(np.argmax(course))
        bounds[name] = low[0, peak], high[0, peak]
    assert bounds["taken as known"][1] < course.max()
    assert bounds["uncertain"][0] < course.max() < bounds["uncertain"][1]
    # What is proportional to the gain is known no better than it.
    assert found.hyper["head 1"].sd > 0.1
