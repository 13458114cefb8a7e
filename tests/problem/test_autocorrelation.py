"""Autocorrelation of the noise: against closed forms, and what is refused."""

import numpy as np
import pytest
from coloured import STEP, ar, toeplitz_of
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar
from scipy.signal import butter, freqz_sos, sosfiltfilt

import bayesinv as bi
from bayesinv.problem.autocorrelation import Autocorrelation, burg, chosen, estimated, of_low_pass, whiteness


class TestBurg:
    def test_each_reflection_minimises_both_prediction_errors(self, rng):
        series = ar([1.2, -0.5], (3, 60), rng)
        forward, backward = series[:, 1:], series[:, :-1]
        reflections = []
        for _ in range(3):
            best = minimize_scalar(
                lambda k, f=forward, b=backward: np.sum((f - k * b) ** 2) + np.sum((b - k * f) ** 2),
                bounds=(-1, 1),
                method="bounded",
                options={"xatol": 1e-10},
            ).x
            reflections.append(best)
            forward, backward = (forward - best * backward)[:, 1:], (backward - best * forward)[:, :-1]
        # The last coefficient of the model of each order is its reflection.
        found = burg(series, 2)
        assert_allclose(found[-1], reflections[1], atol=1e-6)
        assert_allclose(found[0], reflections[0] * (1 - reflections[1]), atol=1e-6)

    def test_the_order_is_that_of_the_process(self):
        rng = np.random.default_rng(1)
        assert len(burg(ar([1.2, -0.5], (40, 200), rng), 30)) == 2
        assert len(burg(ar([0.6], (40, 200), rng), 30)) == 1

    def test_noise_that_is_flat_has_none(self):
        assert len(burg(np.zeros((2, 40)), 5)) == 0


class TestEstimated:
    @pytest.mark.parametrize("centred", [False, True])
    def test_of_a_second_order_process(self, centred):
        """r_1 = a_1 / (1 - a_2), r_k = a_1 r_(k-1) + a_2 r_(k-2) (Yule-Walker)."""
        rng = np.random.default_rng(0)
        series = ar([1.1, -0.3], (150, 80), rng)
        series = series - series.mean(axis=1, keepdims=True) if centred else series
        found = estimated(series, ["sensor"] * 150, STEP, "here", centred=centred).values[0]
        wanted = [1.0, 1.1 / 1.3]
        for _ in range(10):
            wanted.append(1.1 * wanted[-1] - 0.3 * wanted[-2])
        # 12,000 numbers worth about 2,000 independent ones: a standard error of 0.02.
        assert_allclose(found[:12], wanted, atol=0.06)
        if centred:
            # What the mean took away would be some 0.07 at every lag.
            assert abs(np.mean(found[3:12] - wanted[3:12])) < 0.035

    @pytest.mark.parametrize("cutoff", [0.2, 0.3])
    def test_of_noise_that_was_filtered(self, rng, cutoff):
        sos = butter(8, 2 * cutoff, output="sos")
        noise = sosfiltfilt(sos, rng.standard_normal((60, 900)), axis=1)[:, 200:600]
        found = estimated(noise - noise.mean(axis=1, keepdims=True), ["eeg"] * 60, 0.002, "filtered", centred=True)
        # That of the filter, by its frequency response.
        frequencies, response = freqz_sos(sos, 4096, whole=True)
        power = np.abs(response) ** 4
        wanted = np.real(power @ np.exp(1j * np.outer(frequencies, np.arange(6)))) / power.sum()
        assert_allclose(found.values[0, :6], wanted, atol=0.06)

    def test_white_noise_is_white_in_nearly_all_cases(self):
        """The criterion prefers one order with the probability that chi² of one degree exceeds log of the count."""
        rng = np.random.default_rng(0)
        found = [estimated(rng.standard_normal((10, 60)), ["a"] * 10, 1.0, "here").white for _ in range(200)]
        # P(chi² > log 600) = 0.011 at each of 15 orders, most of which lie behind others: at most 4 % of cases.
        assert np.mean(found) > 0.93

    def test_groups_have_their_own(self):
        rng = np.random.default_rng(0)
        noise = np.concatenate([ar([0.9], (40, 300), rng), ar([0.2], (60, 300), rng)])
        found = estimated(noise, ["meg"] * 40 + ["eeg"] * 60, STEP, "here")
        assert found.groups == ("meg", "eeg")
        assert_allclose(found.values[:, 1], [0.9, 0.2], atol=0.03)

    def test_trials_are_not_joined(self):
        rng = np.random.default_rng(0)
        trials = ar([0.95], (300, 40), rng).reshape(10, 30, 40)
        noise = np.concatenate(list(trials.transpose(1, 0, 2)), axis=1)
        found = estimated(noise, ["a"] * 10, STEP, "here", trials=30)
        assert_allclose(found.values[0, 1], 0.95, atol=0.02)


class TestChosen:
    def problem(self, quiet, **options):
        rng = np.random.default_rng(2)
        baseline = ar([0.8 * (quiet > 10)], (30, quiet), rng) if quiet else None
        return bi.Problem.from_arrays(
            rng.standard_normal((30, 4)), rng.standard_normal((30, 20)), np.eye(30), baseline=baseline, **options
        )

    def test_it_is_estimated_where_the_baseline_is_long_enough(self):
        problem = self.problem(200)
        assert_allclose(problem.autocorrelation.values[0, 1], 0.8, atol=0.03)
        assert "estimated from 200 samples of baseline" in problem.noise_over_time

    def test_too_short_a_baseline_is_said(self):
        assert "has 10 samples, too few to estimate it" in self.problem(10).noise_over_time
        assert "there is no baseline" in self.problem(0).noise_over_time
        assert self.problem(10).time_whitening is None

    def test_white_and_given(self):
        assert self.problem(200, noise_time="white").time_whitening is None
        given = self.problem(200, noise_time=[1, 0.5, 0.25, 0.1])
        assert_allclose(given.time_whitening.correlations[0], toeplitz_of([1, 0.5, 0.25, 0.1], 20))

    def test_a_low_pass_implies_one(self):
        noise = chosen("auto", None, ("a",), 1e-3 * np.arange(30), False, low_pass=100.0)
        assert_allclose(noise.values[0, 1], np.sinc(0.2), atol=0.05)
        assert "low-pass at 100 Hz" in noise.source
        assert of_low_pass(499.0, 1e-3, 30) is None

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ("colour", r"no noise_time named 'colour'"),
            ([0.9, 0.5], "but must be 1 there"),
            ([1.0, -0.9, 0.9], "no stationary process"),
            ([1.0, np.nan], "1 NaN or infinite"),
            ([], r"noise_time has shape \(0,\), but must be"),
            (np.ones((2, 3, 4)), r"noise_time has shape \(2, 3, 4\)"),
            (1.0, r"noise_time is 1\.0, but must be"),
            (None, r"noise_time is None, but must be"),
            ({"eeg": [1.0, 0.5]}, "noise_time is of 'eeg', but the noise has the groups 'sensor'"),
            ({"sensor": np.ones((1, 2))}, "one autocorrelation"),
            ([1.0, 0.5j], "real numbers, but it is complex"),
            (np.ma.masked_array([1.0, 0.5], [False, True]), "noise_time is a masked array"),
            (["1", "0.5"], r"noise_time is \['1', '0\.5'\], but must be"),
            ([True, False], r"noise_time is \[True, False\], but must be"),
            ([[1.0, 0.5], [1.0]], "noise_time has rows of several lengths"),
            (object, "noise_time is <class 'object'>, but must be"),
            (np.ones((2, 1)), "group = 2"),
        ],
    )
    def test_what_is_none_is_refused(self, given, message):
        with pytest.raises(ValueError, match=message):
            self.problem(0, noise_time=given)

    def test_groups_are_named(self):
        """Rows would have an order, which is not that in which sensors were given."""
        rng = np.random.default_rng(2)
        given = {"eeg": 0.8 ** np.arange(30), "meg": 0.2 ** np.arange(5)}
        options = {"kinds": ("eeg",) * 3 + ("mag",) * 4, "noise_cov": np.eye(7)}
        arrays = rng.standard_normal((7, 9)), rng.standard_normal((7, 20))
        problem = bi.Problem.from_arrays(*arrays, **options, noise_time=given)
        for name, row in zip(problem.autocorrelation.groups, problem.autocorrelation.values, strict=True):
            assert_allclose(row[: len(given[name])], given[name])
            assert not row[len(given[name]) :].any()
        with pytest.raises(ValueError, match=r"2 rows, but nothing says which is whose; give one by group, \{'meg'"):
            bi.Problem.from_arrays(*arrays, **options, noise_time=np.array([[1.0, 0.8], [1.0, 0.2]]))

    def test_samples_at_another_step_are_refused(self):
        with pytest.raises(ValueError, match=r"known at steps of 2 ms, but samples lie 3 ms apart"):
            self.problem(0, times=0.003 * np.arange(20), noise_time=Autocorrelation(np.array([1, 0.5]), 0.002))
        # Every second step is one too.
        self.problem(0, times=0.004 * np.arange(20), noise_time=Autocorrelation(np.array([1, 0.5]), 0.002))

    def test_groups_that_are_not_there_are_refused(self):
        known = Autocorrelation(np.array([[1, 0.5], [1, 0.2]]), 1.0, ("eeg", "meg"))
        with pytest.raises(ValueError, match=r"autocorrelation knows eeg, meg, but components are of sensor too"):
            self.problem(0, noise_time=known)
        with pytest.raises(ValueError, match=r"autocorrelation knows eeg, meg, but"):
            bi.Problem(np.ones((3, 4)), np.ones((3, 5)), np.arange(5.0), autocorrelation=known)


def test_whiteness_is_the_autocorrelation():
    rng = np.random.default_rng(0)
    found, error = whiteness(ar([0.5], (100, 400), rng), 3)
    assert_allclose(found, [0.5, 0.25, 0.125], atol=5 * error)
    assert_allclose(error, 1 / 200)
