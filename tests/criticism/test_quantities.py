"""Test quantities and their posterior predictive p-values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pymc as pm
import pytest
from coloured import coloured, dense, noise_covariance
from numpy.testing import assert_allclose
from referee import toy
from scipy.stats import binom, kstest

from bayesinv import Currents, figures, infer
from bayesinv.criticism.posterior_predictive import CONSERVATIVE, posterior_predictive
from bayesinv.criticism.prior_draws import Prior
from bayesinv.criticism.quantities import QUANTITIES, Quantity, of_recording, of_residual, sensor_groups


def fixed(noise=1.0, **shape):
    def model(problem):
        with pm.Model(coords=problem.coords) as built:
            Currents(4 / problem.signal_power, **shape).observe("recording", problem, noise=noise)
        return built

    return model


def test_they_are_what_they_say():
    rng = np.random.default_rng(1)
    for shape in ((5, 8), (8, 5)):
        table = rng.normal(size=shape)
        found = of_recording(table)
        assert_allclose(found["power"], np.var(table) + table.mean() ** 2)
        assert found["largest value"] == max(table.max(), -table.min())
        assert_allclose(found["leading component"], np.linalg.svd(table)[1][0] ** 2 / shape[1])
    from scipy.stats import moment

    table = rng.normal(size=(4, 3000))
    table -= table.mean()
    found = of_residual(table)
    assert_allclose(found["residual kurtosis"], moment(table.ravel(), 4) / moment(table.ravel(), 2) ** 2)
    for level in (0.0, 0.6):
        course = [rng.normal(size=4)]
        for _ in range(20000):
            course.append(level * course[-1] + rng.normal(size=4))
        assert_allclose(of_residual(np.array(course).T)["residual autocorrelation"], level, atol=0.02)
    assert "residual autocorrelation" not in of_residual(table[:, :1])


def test_p_values_count_the_recording_as_a_replicate():
    recorded, replicated = np.array([1.0, 1.0, 1.0]), np.array([0.0, 1.0, 2.0])
    assert Quantity("power", "eeg", recorded, replicated).p_value == 0.75
    assert Quantity("power", "eeg", recorded, replicated).title == "power (EEG)"
    many = np.linspace(0, 1, 199)
    for value, p, extreme in ((2.0, 1 / 200, True), (-1.0, 1.0, True), (0.5, 101 / 200, False)):
        one = Quantity("power", "", np.full(199, value), many)
        assert one.p_value == p
        assert one.extreme == extreme


@pytest.mark.slow
@pytest.mark.parametrize("shape", [{}, {"time": 0.006}])
@pytest.mark.parametrize("currents", ["inferred", "new"])
def test_they_agree_with_dense_draws(shape, currents):
    """Fields and noise are drawn from the joint normal distribution of everything, written out."""
    problem = coloured(centred=True)
    posterior = infer(fixed(1.2, **shape), problem)
    mixture, count = posterior.mixture, 6000
    found = posterior_predictive(posterior, 4000, np.random.default_rng(2), currents=currents)
    total = dense(problem, mixture.structures[0], float(mixture.variance[0]), float(mixture.noise[0]))[1]
    noise = 1.2**2 * noise_covariance(problem)
    gain = (total - noise) @ np.linalg.inv(total)
    values, rng = problem.recording.ravel(), np.random.default_rng(3)

    def draws(covariance):
        left, size, _ = np.linalg.svd(covariance)
        return (rng.normal(size=(count, len(size))) * np.sqrt(size)) @ left.T

    seen = gain @ values + draws(total - noise - gain @ (total - noise))
    fresh = draws(noise)
    replicated = fresh + (seen if currents == "inferred" else draws(total - noise))
    white = np.linalg.inv(np.linalg.cholesky(noise_covariance(problem)[:7, :7]))

    def residuals(table, rows):
        return [of_residual(one.reshape(5, 7)[rows] @ white.T / 1.2) for one in table]

    def p_value(recorded, tables, name):
        return np.mean(np.array([one[name] for one in tables]) >= np.array([one[name] for one in recorded]))

    error = 5 * 0.5 * np.sqrt(1 / 4000 + 1 / count)
    for group, rows in sensor_groups(problem).items():
        recorded = [of_recording(problem.recording[rows])] * count
        every = [of_recording(one.reshape(5, 7)[rows]) for one in replicated]
        left, drawn_noise = residuals(values - seen, rows), residuals(fresh, rows)
        for one, other in ((recorded, every), (left, drawn_noise)):
            for name in one[0]:
                wanted = p_value(one, other, name)
                assert_allclose(found[f"{name} ({group.upper()})"].p_value, wanted, atol=error)


def test_of_a_baseline_p_is_that_of_chi_squared():
    from scipy.stats import chi2

    problem = toy(3, sensors=5, sources=9, samples=7, quiet=12)
    found = posterior_predictive(infer(fixed(1.1), problem), 2000)["baseline power"]
    square = np.sum(problem.baseline**2) / 1.1**2
    assert_allclose(found.recorded, square / 60)
    assert_allclose(found.p_value, chi2.sf(square, 60), atol=5 * 0.5 / np.sqrt(2000))
    bare = toy(3, sensors=5, sources=9, samples=7, quiet=0)
    names = [one.name for one in posterior_predictive(infer(fixed(), bare), 2).quantities]
    assert names == [name for name in QUANTITIES if name != "baseline power"]


def drawn_problem(seed, model=None):
    problem = toy(seed, sensors=9, sources=15, samples=30, quiet=25)
    _, made = Prior.of(model or fixed(), problem, 1).truth(0, np.random.default_rng(seed))
    return made


@pytest.mark.slow
def test_none_is_extreme_more_often_than_chance_where_the_model_is_right():
    model = fixed()
    p_values = {name: [] for name in QUANTITIES}
    extreme = 0
    for seed in range(40):
        made = drawn_problem(seed, model)
        found = posterior_predictive(infer(model, made), 99, np.random.default_rng(seed))
        extreme += len(found.extreme)
        for name in p_values:
            p_values[name].append(found[name].p_value)
    # Each of 7 × 40 is extreme with probability 0.02 or less, were they uniform.
    assert extreme <= binom.isf(1e-3, 280, 0.02)
    # Of the baseline nothing was fitted.
    assert kstest(p_values["baseline power"], "uniform").pvalue > 1e-3
    for name, values in p_values.items():
        assert 0.2 < np.mean(values) < 0.8, name
        # Conservative: no wider than uniform, whose sd is 0.29; that of the sd of 40 is 0.03 at most.
        assert np.std(values) < 0.29 + 3 * 0.03, name


def faulty(made, rng):
    """Each planted fault, and the quantities that must show it."""
    recording, baseline = made.recording, made.baseline
    spike = recording.copy()
    spike[4, 11] += 40.0
    # Slow noise of the same power in a direction in which there are no currents.
    _, vectors = np.linalg.eigh(made.gain @ made.gain.T)
    slow = np.cumsum(rng.normal(size=(9, 30)), axis=1)
    slow *= 3 / np.sqrt(np.mean(slow**2))
    tails = rng.standard_t(1.5, size=recording.shape)
    topography = vectors[:, [0]] * rng.normal(size=(1, 30)) * 20
    yield spike, baseline, ("largest value", "residual kurtosis", "residual power")
    yield recording + slow, baseline, ("residual autocorrelation", "residual power")
    yield recording + tails, baseline, ("residual kurtosis",)
    yield recording + topography, baseline, ("residual power",)
    yield recording, 2 * baseline, ("baseline power",)
    yield recording, baseline / 2, ("baseline power",)


@pytest.mark.parametrize("fault", range(6))
def test_a_planted_fault_makes_its_quantities_extreme(fault):
    made = drawn_problem(3)
    recording, baseline, names = list(faulty(made, np.random.default_rng(5)))[fault]
    posterior = infer(fixed(), made.again(recording, baseline=baseline))
    found = posterior_predictive(posterior, 199)
    for name in names:
        assert found[name].extreme, name
        assert name in found.verdict
    if fault == 5:
        assert found["baseline power"].p_value > 0.99


@pytest.mark.parametrize(("factor", "larger"), [(5.0, 0.0), (0.02, 1.0)])
def test_a_prior_that_makes_other_recordings_is_told_by_new_currents(factor, larger):
    made = drawn_problem(4)
    found = posterior_predictive(infer(fixed(), made.again(factor * made.recording)), 199, currents="new")
    for name in ("power", "leading component", "largest value"):
        assert found[name].extreme
        assert_allclose(found[name].p_value, larger, atol=0.01)


def test_meg_and_eeg_are_apart():
    kinds = ["mag"] * 3 + ["eeg"] * 2
    problem = toy(4, sensors=5, sources=9, samples=9, quiet=12, noise_cov=np.eye(5), kinds=kinds, noise_time="white")
    assert {name: rows.tolist() for name, rows in sensor_groups(problem).items()} == {"meg": [0, 1, 2], "eeg": [3, 4]}
    loud = problem.baseline.copy()
    loud[3:] *= 6
    found = posterior_predictive(infer(fixed(), replace(problem, baseline=loud)), 199)
    assert len(found.quantities) == 2 * len(QUANTITIES)
    assert found["baseline power (EEG)"].extreme
    assert not found["baseline power (MEG)"].extreme
    assert_allclose(found["largest value (EEG)"].recorded, np.abs(problem.recording[3:]).max())


def test_table_names_and_figure_read():
    problem = coloured(2, samples=9, quiet=12)
    found = posterior_predictive(infer("hierarchical", problem), 30, quantity=np.max)
    text = str(found)
    assert CONSERVATIVE in text
    assert found.verdict in text
    assert len(found.cells()) == 2 * len(QUANTITIES) + 1
    assert found.own.p_value == found.p_value == found["quantity"].p_value
    figure = figures.posterior_predictive(found)
    labels = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert {one.title for one in found.every} <= set(labels)
    figure.canvas.draw()
    with pytest.raises(KeyError, match=r"no test quantity .colour.; there are power .MEG."):
        found["colour"]


def test_sensors_bear_their_names():
    problem = toy(4, sensors=3, sources=9, samples=7, noise_cov=np.eye(3), kinds=["eeg"] * 3, names=["Fz", "Cz", "Pz"])
    assert posterior_predictive(infer(fixed(), problem), 2).names == ("Fz", "Cz", "Pz")
