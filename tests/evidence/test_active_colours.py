"""Likelihood of dense currents and a few sources where noise has two colours, against dense algebra."""

import numpy as np
import pytest
from coloured import coloured, groups_of
from numpy.testing import assert_allclose
from scipy.linalg import block_diag
from scipy.stats import multivariate_normal

from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.evidence.active import FocalRecording
from bayesinv.evidence.active_apart import FocalApart
from bayesinv.evidence.active_modes import FocalBasis, FocalModes
from bayesinv.problem.autocorrelation import Autocorrelation

SETS = ([], [1], [5], [1, 3], [2, 6], [1, 3, 5])
SCALES = 0.1, 0.9


def dense(problem, places, constant, error):
    """Log density of a recording given which sources are active."""
    over, rows, gain = correlation_over_time(problem.times, constant), groups_of(problem), problem.gain
    variance, noise = SCALES
    fields = 1.5 * gain[:, places]
    total = np.kron(variance * gain @ gain.T + fields @ fields.T, over)
    total += noise**2 * block_diag(*problem.time_whitening.correlations[rows])
    if error:
        # Errors of the EEG's fields have the courses' spectrum times that of its noise over that of MEG.
        values, vectors = np.linalg.eigh(problem.time_whitening.correlations)
        meg, eeg = (axes @ np.diag(np.sqrt(one)) @ axes.T for one, axes in zip(values, vectors, strict=True))
        turned = eeg @ np.linalg.inv(meg)
        each = np.stack([over, turned @ over @ turned.T])
        total += error**2 * block_diag(*each[rows])
    return multivariate_normal(cov=total).logpdf(problem.recording.ravel())


def by_modes(problem, places, constant, error):
    """The same by modes of time that the colours share."""
    modes, structure = FocalModes.of(problem, constant), Structure()
    basis = FocalBasis.of(problem, structure, [modes])
    recording = FocalRecording.of(problem, basis, modes, baseline=False)
    fields = basis.to_components.T @ (1.5 * problem.gain[:, places])
    return sum(recording.log_densities(np.ascontiguousarray(fields.T), *SCALES, error))


@pytest.mark.parametrize("error", [0.0, 0.5])
@pytest.mark.parametrize("constant", [0.002, 0.01, 0.03])
def test_the_density_of_a_set_is_that_of_a_dense_normal(monkeypatch, constant, error):
    problem = coloured(2, samples=12)
    exact = FocalApart(problem, Structure())
    wanted = [dense(problem, places, constant, error) for places in SETS]

    def found():
        each = [1.5 * problem.gain[:, places] for places in SETS]
        return np.array([exact.log_density(fields, constant, *SCALES, error) for fields in each])

    monkeypatch.setattr("bayesinv.evidence.active_apart.LITTLE", 0.0)
    assert_allclose(found(), wanted, rtol=1e-7)
    # Parts that count as independent hardly change by how much sets differ.
    monkeypatch.setattr("bayesinv.evidence.active_apart.LITTLE", 5e-3)
    assert_allclose(np.diff(found()), np.diff(wanted), atol=0.03)


@pytest.mark.parametrize("error", [0.0, 0.5])
@pytest.mark.parametrize("constant", [0.002, 0.005, 0.01, 0.03])
def test_modes_that_colours_share_give_nearly_the_differences_between_sets(constant, error):
    problem = coloured(2, samples=7)
    found = np.array([by_modes(problem, places, constant, error) for places in SETS])
    wanted = np.array([dense(problem, places, constant, error) for places in SETS])
    assert_allclose(found - found[0], wanted - wanted[0], atol=0.4)
    assert_allclose(found, wanted, atol=0.7)


@pytest.mark.parametrize("constant", [0.005, 0.03])
def test_they_are_exact_where_colours_are_all_but_the_same(constant):
    one = coloured(1, samples=7)
    values = one.autocorrelation.values
    nearly = np.concatenate([values, values * np.where(np.arange(values.shape[1]), 1 - 1e-9, 1)])
    two = one.with_fields(autocorrelation=Autocorrelation(nearly, one.autocorrelation.step, ("meg", "eeg")))
    assert two.time_whitening.groups == 2
    for places in SETS:
        assert_allclose(by_modes(two, places, constant, 0.5), by_modes(one, places, constant, 0.5), atol=1e-4)


def test_modes_of_a_block_are_side_by_side_and_have_its_spreads():
    problem = coloured(2, samples=12)
    modes = FocalModes.of(problem, 0.01)
    basis = FocalBasis.of(problem, Structure(), [modes, FocalModes.of(problem, 0.002)])
    recording = FocalRecording.of(problem, basis, modes, baseline=False)
    blocks = recording.blocks
    assert len(np.unique(blocks)) > 2
    assert np.sum(np.diff(blocks) != 0) == len(np.unique(blocks)) - 1
    for k, block in enumerate(blocks):
        spread = modes.spread(k)
        one = basis.decompositions[block]
        assert_allclose(
            one.from_components @ one.from_components.T,
            np.diag(np.ones(5) if spread is None else spread**2),
            atol=1e-12,
        )
        assert_allclose(spread[:3] if spread is not None else 1.0, 1.0)
    # Noise of the recording has unit variance in modes over spreads, in each group.
    for group, to_modes in enumerate(modes.to_modes):
        own = np.einsum("tm,ts,sm->m", to_modes, problem.time_whitening.correlations[group], to_modes)
        component = int(np.flatnonzero(modes.rows == group)[0])
        spreads = [1.0 if modes.spread(k) is None else modes.spread(k)[component] for k in range(len(own))]
        assert_allclose(own, np.square(spreads))
