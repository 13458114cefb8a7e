"""Bad values, sensors and samples are found and named; good data, and strong responses, raise no alarm."""

import warnings

import mne
import numpy as np
import pytest
from referee import GAIN, toy
from scipy.signal import lfilter
from scipy.stats import binom

import bayesinv as bi
from bayesinv.inference.outliers import outlier_checks
from bayesinv.posterior.mixture import Mixture

pytestmark = pytest.mark.filterwarnings(
    "ignore:the whitened baseline:UserWarning",
    "ignore:.*shows? the same value:UserWarning",
    # Noise this slow has a mean over the baseline, which cannot be told from an average without correction.
    "ignore:the baseline has a mean:UserWarning",
)

SENSORS, SOURCES, SAMPLES, QUIET = 30, 80, 40, 60


def noise_of(rng, sensors, samples, memory):
    """Noise of scale one that remembers, by an autoregressive process of first order."""
    drawn = lfilter([np.sqrt(1 - memory**2)], [1, -memory], rng.standard_normal((sensors, samples + 300)), axis=1)
    return drawn[:, 300:]


def scene(seed, memory=0.0, correlated=False, quiet=QUIET, spoil=None):
    """A problem from the hierarchical model, and data that `spoil` may change: (recording, baseline, sds)."""
    rng = np.random.default_rng(seed)
    gain = rng.standard_normal((SENSORS, SOURCES))
    distance = np.abs(np.subtract.outer(np.arange(SENSORS), np.arange(SENSORS)))
    covariance = 0.1 * np.eye(SENSORS) + 0.9 * np.exp(-distance / 4) if correlated else np.eye(SENSORS)
    noise = np.linalg.cholesky(covariance) @ noise_of(rng, SENSORS, SAMPLES + quiet, memory)
    recording = gain @ (0.3 * rng.standard_normal((SOURCES, SAMPLES))) + noise[:, :SAMPLES]
    baseline = noise[:, SAMPLES:]
    if spoil is not None:
        spoil(rng, recording, baseline)
    return bi.Problem.from_arrays(
        gain, recording, covariance, baseline=baseline if quiet else None, times=0.01 * np.arange(SAMPLES)
    )


def checked(problem, scale=0.3):
    """The checks at the true scales."""
    return outlier_checks(
        problem, Mixture(np.ones(1), np.array([scale**2]), np.ones(1), np.zeros(1, dtype=int), (None,))
    )


def failed(checks):
    """Notes of checks that fail, but for the one of courses: responses are slower than models of single samples say."""
    return {check.name: check.note for check in checks if not check.passed and check.name != "currents over time"}


def spike(rng, recording, baseline):
    recording[3, 20] += 900


def dead(rng, recording, baseline):
    recording[3], baseline[3] = 0, 0


def dead_in_the_response(rng, recording, baseline):
    recording[3] = 7.0


def loud(rng, recording, baseline):
    for table in (recording, baseline):
        table[3] += 5 * rng.standard_normal(table.shape[1])


def burst(rng, recording, baseline):
    baseline[:, 20] *= 12


class TestFaultsAreNamed:
    @pytest.mark.parametrize("correlated", [False, True])
    @pytest.mark.parametrize("memory", [0.0, 0.9])
    @pytest.mark.parametrize(
        ("spoil", "check", "words"),
        [
            (spike, "outlying values", "sensor 3 at 200 ms"),
            (dead, "flat sensors", "flat at sensor 3,"),
            (dead_in_the_response, "flat sensors", "flat at sensor 3,"),
            (loud, "noisy sensors", "says: sensor 3 ("),
            (burst, "outlying samples", "off in sample 20 of the baseline,"),
        ],
    )
    def test_among_many_sensors(self, spoil, check, words, memory, correlated):
        for seed in range(3):
            found = failed(checked(scene(seed, memory, correlated, spoil=spoil)))
            assert words in found[check]
            assert any(remedy in found[check] for remedy in ("leave", "interpolate", "mark it as bad"))

    @pytest.mark.parametrize("quiet", [8, 200])
    def test_the_limit_that_is_shown_is_that_of_the_table_that_fails(self, quiet):
        """Recording and baseline have limits of their own; of a fault that grows, a limit is passed where it is shown.

        Both grow: a spike, and the noise of a sensor in one table alone.
        """
        outcomes = set()
        for table in (0, 1):
            for size in np.linspace(0, 9, 46):

                def spoil(rng, *tables, table=table, size=size):
                    tables[table][3, 4] += size
                    tables[table][7] *= 1 + size / 3

                for check in checked(scene(0, quiet=quiet, spoil=spoil)):
                    sign, limit = check.limit.split()[:2]
                    within = check.value < float(limit) if sign == "<" else check.value > float(limit)
                    assert within == check.passed, (check.name, table, size, check.value, check.limit)
                    outcomes.add((check.name, check.passed))
        assert {("outlying values", False), ("noisy sensors", False)} <= outcomes

    @pytest.mark.parametrize(("spoil", "words"), [(spike, "sensor 3 at 200 ms"), (dead, "flat at sensor 3,")])
    def test_without_a_baseline(self, spoil, words):
        assert words in " ".join(failed(checked(scene(0, quiet=0, spoil=spoil))).values())

    def test_several_noisy_sensors_and_no_neighbours_of_theirs(self):
        def spoil(rng, recording, baseline):
            for table in (recording, baseline):
                table[[4, 17]] += 6 * rng.standard_normal((2, table.shape[1]))

        note = failed(checked(scene(0, correlated=True, spoil=spoil)))["noisy sensors"]
        named = [i for i in range(SENSORS) if f"sensor {i} (" in note]
        assert named == [4, 17]
        assert "more" not in note

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [(spike, "sensor 3 at 200 ms"), (dead, "flat at sensor 3,"), (loud, "sensor 3 (")],
    )
    @pytest.mark.parametrize("model", ["hierarchical", pytest.param("depth_weighted", marks=pytest.mark.slow)])
    def test_in_a_posterior_whose_scales_they_have_inflated(self, model, spoil, words):
        posterior = bi.infer(model, scene(0, spoil=spoil), draws=100)
        assert not posterior.passed
        assert any(words in check.note for check in posterior.checks if not check.passed)

    def test_a_few_samples_of_a_few_sensors(self):
        rng = np.random.default_rng(0)
        gain, noise = rng.standard_normal((12, 40)), rng.standard_normal((12, 46))
        recording, baseline = gain @ (0.3 * rng.standard_normal((40, 6))) + noise[:, :6], noise[:, 6:]
        one, other = recording.copy(), (recording.copy(), baseline.copy())
        one[3, 2] = 900.0
        for table in other:
            table[3] += 5 * rng.standard_normal(table.shape[1])
        names = [f"E{i}" for i in range(12)]
        for (y, b), words in (((one, baseline), "E3 at 2000 ms (4"), (other, "E3 (4.9 times, baseline)")):
            problem = bi.Problem.from_arrays(gain, y, np.eye(12), baseline=b, names=names)
            found = failed(bi.infer("hierarchical", problem).checks)
            assert any(words in note for note in found.values())

    def test_a_kind_of_sensor(self):
        rng = np.random.default_rng(0)
        gain, noise = rng.standard_normal((24, 60)), rng.standard_normal((24, 100))
        noise[:9] *= 2.5
        kinds = ["mag"] * 9 + ["grad"] * 15
        recording = gain @ (0.1 * rng.standard_normal((60, 40))) + noise[:, :40]
        problem = bi.Problem.from_arrays(gain, recording, np.eye(24), baseline=noise[:, 40:], kinds=kinds)
        found = failed(checked(problem, 0.1))
        assert "mag (2." in found["kinds of sensor"]
        assert "sensor_noise" in found["kinds of sensor"]


class TestGoodData:
    @pytest.mark.parametrize("memory", [0.0, pytest.param(0.9, marks=pytest.mark.slow), 0.97])
    @pytest.mark.parametrize("quiet", [0, QUIET])
    def test_fewer_than_one_in_a_hundred_fail(self, memory, quiet):
        """Bonferroni's bound is 5 in 1000; more than one in a hundred of 60 would show with probability 0.995."""
        alarms = sum(bool(failed(checked(scene(seed, memory, quiet=quiet)))) for seed in range(60))
        assert alarms <= binom.ppf(0.995, 60, 0.005)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "size", [{"sensors": 7, "samples": 3, "quiet": 6}, {"sensors": 9, "samples": 1, "quiet": 0}]
    )
    def test_nor_of_posteriors_of_small_problems(self, size):
        names = {"flat sensors", "noisy sensors", "outlying values", "outlying samples"}
        problem, rng, alarms = toy(sources=40, spread=0.0, **size), np.random.default_rng(1), 0
        for _ in range(200):
            current = 3 / GAIN * rng.standard_normal((40, size["samples"]))
            field = problem.gain @ current + rng.standard_normal(problem.recording.shape)
            quiet = rng.standard_normal((size["sensors"], size["quiet"])) if size["quiet"] else None
            found = bi.infer("hierarchical", problem.again(field, baseline=quiet), draws=50)
            alarms += bool(names & set(failed(found.checks)))
        assert alarms <= binom.ppf(0.995, 200, 0.01)

    def test_a_strong_response_is_no_fault(self):
        """Currents of a few samples ten times as strong as on average."""
        rng = np.random.default_rng(1)
        gain = rng.standard_normal((SENSORS, SOURCES))
        course = np.exp(-((np.arange(SAMPLES) - 20) ** 2) / 8)
        current = 0.3 * rng.standard_normal((SOURCES, 1)) * course / np.sqrt(np.mean(course**2))
        problem = bi.Problem.from_arrays(
            gain, gain @ current + rng.standard_normal((SENSORS, SAMPLES)), baseline=rng.standard_normal((SENSORS, 60))
        )
        assert not failed(bi.infer("hierarchical", problem, draws=100).checks)

    @pytest.mark.parametrize(
        "model", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("temporal", "oriented")), "sensor_noise"]
    )
    def test_of_other_structure(self, model):
        from templates import simulate, template

        size = {"temporal": {"samples": 12}, "oriented": {}, "sensor_noise": {"samples": 12, "quiet": 20}}[model]
        problem = simulate(model, template(model, **size), np.random.default_rng(3))[2]
        checks = bi.infer(model, problem, draws=100).checks
        assert {"flat sensors", "noisy sensors", "outlying values", "outlying samples"} <= {c.name for c in checks}
        assert not {"noisy sensors", "outlying values", "outlying samples"} & set(failed(checks))


ABOUT_CURRENTS = {"currents over depth", "currents by kind of sensor"}
"""Checks that fail where currents are of a few places, as these are, and have one scale everywhere."""


@pytest.mark.slow
class TestRealRecording:
    def problem(self, sample, spoil=None):
        mne.set_log_level("error")
        evoked = mne.read_evokeds(sample / "sample-right-ave.fif", "Right Auditory", baseline=(None, 0))
        if spoil is not None:
            spoil(evoked)
        forward = mne.read_forward_solution(sample / "sample-oct5-fwd.fif")
        cov = mne.read_cov(sample / "sample-noise-cov.fif")
        return bi.from_mne(evoked, forward, cov, orientation="fixed", tmax=0.3, outliers="drop"), cov, evoked

    def test_it_passes(self, sample):
        assert not set(failed(bi.infer("hierarchical", self.problem(sample)[0]).checks)) - ABOUT_CURRENTS

    @pytest.mark.parametrize(
        ("picks", "name", "size"),
        [(None, "EEG 020", 10), (None, "EEG 020", 30), ("eeg", "EEG 001", 900), ("eeg", "EEG 008", 900)],
    )
    def test_a_value_that_strong_currents_would_explain(self, sample, picks, name, size):
        """One value of one electrode makes the SNR of all 8 to 40 times as large."""
        mne.set_log_level("error")
        evoked = mne.read_evokeds(sample / "sample-right-ave.fif", "Right Auditory", baseline=(None, 0))
        forward = mne.read_forward_solution(sample / "sample-oct5-fwd.fif")
        cov = mne.read_cov(sample / "sample-noise-cov.fif")
        row, sd = evoked.ch_names.index(name), np.sqrt(np.diag(cov["data"])[cov.ch_names.index(name)] / evoked.nave)
        evoked.data[row, evoked.time_as_index(0.1)[0]] += size * sd
        problem = bi.from_mne(evoked, forward, cov, orientation="fixed", outliers="drop", picks=picks)
        found = failed(bi.infer("hierarchical", problem).checks)
        assert set(found) - ABOUT_CURRENTS - {"noise in the recording"} == {"outlying values"}
        assert f"sensors say: {name} at 99." in found["outlying values"]
        assert found["outlying values"].count(" sd)") == 1

    @pytest.mark.parametrize("picks", [None, "eeg"])
    @pytest.mark.parametrize("referenced", [False, True])
    def test_an_electrode_that_is_dead_from_the_stimulus_on(self, sample, picks, referenced):
        mne.set_log_level("error")
        evoked = mne.read_evokeds(sample / "sample-right-ave.fif", "Right Auditory", baseline=(None, 0))
        row = evoked.data[evoked.ch_names.index("EEG 020")]
        row[evoked.times >= 0] = row[evoked.times >= 0][0]
        if referenced:
            electrodes = mne.pick_types(evoked.info, meg=False, eeg=True)
            evoked.data[electrodes] -= evoked.data[electrodes].mean(axis=0)
        forward = mne.read_forward_solution(sample / "sample-oct5-fwd.fif")
        cov = mne.read_cov(sample / "sample-noise-cov.fif")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            problem = bi.from_mne(evoked, forward, cov, orientation="fixed", outliers="drop", picks=picks, tmax=0.3)
        told = [str(one.message) for one in caught if "EEG 020 from " in str(one.message)]
        assert bool(told) != referenced
        assert ("EEG 020 from " in str(problem)) != referenced
        assert "flat at EEG 020," in failed(bi.infer("hierarchical", problem).checks)["flat sensors"]

    @pytest.mark.parametrize("name", ["MEG 0113", "MEG 1421", "EEG 020"])
    def test_faults_are_named(self, sample, name):
        cov = mne.read_cov(sample / "sample-noise-cov.fif")
        variance = cov["data"][cov.ch_names.index(name), cov.ch_names.index(name)]

        def spoilt(how):
            def spoil(evoked):
                row, sd = evoked.data[evoked.ch_names.index(name)], np.sqrt(variance / evoked.nave)
                if how == "dead":
                    row[:] = 0
                elif how == "loud":
                    row += 5 * sd * np.random.default_rng(0).standard_normal(len(row))
                else:
                    row[evoked.time_as_index(0.1)[0]] += 900 * sd

            found = failed(bi.infer("hierarchical", self.problem(sample, spoil)[0]).checks)
            return " ".join(found.values())

        assert name in spoilt("dead")
        assert f"{name} (" in spoilt("loud")
        assert name + " at 99." in spoilt("spike") or name + " at 100" in spoilt("spike")
