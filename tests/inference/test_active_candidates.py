"""Which patches a source is drawn from: those that explain it once they deviate, wherever their own field points."""

from dataclasses import replace

import numpy as np
import pymc as pm
import pytest
from referee import toy

import bayesinv as bi
from bayesinv.inference.active_chain import Chain
from bayesinv.inference.active_model import EMPTY
from bayesinv.inference.active_set import active_model
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density


def model(problem):
    with pm.Model(coords=problem.coords) as built:
        noise = bi.noise_scale(problem)
        scale = pm.LogNormal("scale", np.log(0.3 * problem.scale_guess), 0.5)
        focal = bi.Patches(problem, extents=(0, 0.06), expected=1.5, most=4)
        bi.Currents(scale**2, focal=focal).observe("recording", problem, noise=noise)
    return built


@pytest.fixture(scope="module")
def density():
    return Density.of(build(model, toy(sensors=16, sources=11, samples=9))[1])


@pytest.mark.parametrize(("patch", "direction", "size"), [(0, 0, 2.5), (2, 2, -2.5), (5, 0, 2.5)])
def test_a_strong_source_is_drawn_where_it_is_though_the_field_of_another_patch_is_nearer(
    density, patch, direction, size
):
    given = active_model(density, density.observation.currents.focal)
    rng, recording = np.random.default_rng(0), given.recordings[0]
    field = given.field(patch, size * np.eye(given.neighbours.count)[direction])[:, 0]
    course = np.sqrt(recording.powers) * rng.standard_normal(len(recording.powers))
    strong = 100 * np.outer(field / np.linalg.norm(field), course / np.linalg.norm(course))
    coefficients = strong + rng.standard_normal(strong.shape)
    given = replace(given, recordings=(replace(recording, coefficients=coefficients), *given.recordings[1:]))
    chain = Chain(given, density.prior_and_scales, density.start, rng)
    chain.patch[:], chain.constant = EMPTY, 0
    chain.refresh()
    # Without deviations another patch is a hundred times as probable, and more.
    straight = chain.scan.log_factors(given.strengths).max(axis=0)
    assert straight.max() > straight[patch] + np.log(100)
    one = chain.conditional()
    drawn = [one.draw(rng) for _ in range(60)]
    assert patch in {found for found, _, _ in drawn}
    weights = np.array([one.log_exact(*each) - one.log_drawn(*each) for each in drawn])
    # Were what is drawn far from the density, one draw would outweigh all others.
    shares = np.exp(weights - weights.max())
    assert shares.sum() ** 2 / np.sum(shares**2) > 6
