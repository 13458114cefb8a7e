"""From MNE-Python to a problem: its numbers come out, and its objects are checked at the door."""

from __future__ import annotations

import re

import mne
import numpy as np
import pytest
from mne.minimum_norm import apply_inverse, make_inverse_operator
from mne.proj import make_projector
from mne_objects import decimated, deviation, given, matching, toy
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv import Problem, baseline, from_mne, infer
from bayesinv.bridges.mne_operator import to_inverse_operator
from bayesinv.bridges.mne_origin import Origin

LAMBDA2 = 1 / 9


@pytest.fixture(scope="module", autouse=True)
def errors_only():
    """Let MNE-Python log errors only."""
    with mne.use_log_level("ERROR"):
        yield


class TestWhitener:
    """Whitened gain and recording are MNE-Python's but for a rotation."""

    @pytest.mark.parametrize(("picks", "diagonal"), [("meg", False), ("eeg", False), (None, False), (None, True)])
    def test_is_that_of_mne(self, auditory, forward, noise_cov, picks, diagonal):
        evoked = decimated(auditory)
        covariance = noise_cov.copy().as_diag() if diagonal else noise_cov
        problem = from_mne(evoked, forward, covariance, picks=picks)
        info = matching(problem, evoked).info
        theirs, _ = mne.cov.compute_whitener(covariance, info, pca=True)
        project, *_ = make_projector(info["projs"] + covariance["projs"], info["ch_names"])
        theirs = np.sqrt(evoked.nave) * theirs @ project
        gain = theirs @ problem.lead_field.gain[:, ::7, 0]
        recording = theirs @ problem.field.field
        assert len(theirs) == problem.components
        assert problem.noise.ranks == {
            key: rank for key, rank in mne.compute_rank(covariance, info=info).items() if rank
        }
        assert deviation(problem.gain[:, ::7].T @ problem.gain[:, ::7], gain.T @ gain) < 1e-9
        assert deviation(problem.gain[:, ::7].T @ problem.recording, gain.T @ recording) < 1e-9
        assert deviation(problem.recording.T @ problem.recording, recording.T @ recording) < 1e-9
        inner = theirs.T @ theirs
        spread = np.sqrt(np.diag(inner))
        assert (
            deviation(
                problem.whitener.T @ problem.whitener / np.outer(spread, spread), inner / np.outer(spread, spread)
            )
            < 1e-9
        )

    def test_rank_can_be_given_and_is_checked(self, auditory, forward, noise_cov):
        assert from_mne(decimated(auditory), forward, noise_cov, picks="eeg", rank=50).components == 50
        with pytest.raises(ValueError, match="rank 59 was given for the eeg sensors"):
            from_mne(decimated(auditory), forward, noise_cov, picks="eeg", rank={"eeg": 59})

    def test_the_whitener_takes_the_recording_as_it_was_measured(self, auditory, forward, noise_cov):
        problem = from_mne(decimated(auditory), forward, noise_cov)
        offset = np.where([kind == "eeg" for kind in problem.sensors.kinds], 1.0, 0.0)
        assert_allclose(problem.whitener @ offset, 0, atol=1e-6 * np.abs(problem.whitener).max())
        assert_allclose(problem.whitener @ problem.field.field, problem.recording, rtol=1e-12)
        gain = problem.lead_field.gain
        assert_allclose(problem.whitener @ gain.reshape(len(gain), -1), problem.gain, rtol=1e-12)


class TestGain:
    def test_fixed_is_that_of_mne(self, auditory, forward, noise_cov):
        problem = from_mne(decimated(auditory), forward, noise_cov)
        theirs = mne.convert_forward_solution(forward, surf_ori=True, force_fixed=True, use_cps=True)
        rows = [theirs["sol"]["row_names"].index(name) for name in problem.field.names]
        assert_array_equal(problem.lead_field.gain[:, :, 0], theirs["sol"]["data"][rows].astype(float))
        assert_allclose(problem.sources.normals, theirs["source_nn"], atol=1e-7)

    def test_free_is_cartesian_whatever_the_axes_of_the_forward(self, auditory, forward, noise_cov):
        rotated = mne.convert_forward_solution(forward, surf_ori=True)
        direct, converted = (
            from_mne(decimated(auditory), one, noise_cov, orientation="free") for one in (forward, rotated)
        )
        assert direct.axes == 3
        assert_array_equal(direct.gain, converted.gain)

    def test_a_fixed_forward_gives_the_same_gain_and_cannot_be_free(self, auditory, forward, noise_cov):
        fixed = mne.convert_forward_solution(forward, surf_ori=True, force_fixed=True)
        same = from_mne(decimated(auditory), fixed, noise_cov, picks="eeg")
        assert_array_equal(same.gain, from_mne(decimated(auditory), forward, noise_cov, picks="eeg").gain)
        with pytest.raises(ValueError, match="fixed orientation, so it cannot be asked for free"):
            from_mne(decimated(auditory), fixed, noise_cov, orientation="free")

    def test_sources_know_their_surface(self, auditory, full_forward, noise_cov):
        sources = from_mne(decimated(auditory), full_forward, noise_cov, picks="eeg", outliers="keep").sources
        assert len(sources) == 2052
        assert_array_equal(np.bincount(sources.hemispheres), [1026, 1026])
        assert sources.triangles.shape == (4096, 3)
        assert not (sources.hemispheres[sources.triangles].std(axis=1) > 0).any()
        assert 0.05 < sources.areas.sum() < 0.5
        assert sources.subject == "sample"
        left = sources.mri_positions[sources.hemispheres == 0, 0]
        assert np.mean(left < 0) > 0.98

    def test_sensors_lie_on_the_head_they_were_computed_for(self, auditory, forward, noise_cov):
        problem = from_mne(decimated(auditory), forward, noise_cov)
        assert problem.sensors.names == problem.field.names
        distance = np.linalg.norm(problem.sensors.positions - problem.sources.positions.mean(axis=0), axis=1)
        assert (distance > 0.06).all()
        assert (distance < 0.16).all()
        # A magnetometer and the two gradiometers of its chip share a place.
        place = dict(zip(problem.sensors.names, problem.sensors.positions, strict=True))
        assert_allclose(place["MEG 0111"], place["MEG 0113"], atol=1e-3)


class TestWindows:
    def test_the_baseline_of_the_average_is_kept(self, auditory, forward, noise_cov):
        problem = from_mne(decimated(auditory, 6), forward, noise_cov, picks="eeg")
        before = decimated(auditory, 6).times <= 1e-6
        assert problem.baseline.shape[1] == before.sum()
        assert problem.baseline_centred
        assert problem.times[0] > 0
        assert 0.8 < problem.baseline_power < 1.3

    def test_the_window_asked_for_and_no_baseline(self, auditory, forward, noise_cov):
        problem = from_mne(auditory, forward, noise_cov, picks="eeg", tmin=-0.1, tmax=0.05, baseline=None)
        assert problem.baseline is None
        assert_allclose(problem.times[[0, -1]], [-0.1, 0.05], atol=1e-3)

    def test_no_sample_counts_twice(self, auditory, forward, noise_cov):
        whole = from_mne(auditory, forward, noise_cov, picks="eeg", tmin=0.0)
        part = from_mne(auditory, forward, noise_cov, picks="eeg", tmin=-0.1)
        assert whole.baseline.shape[1] + len(whole.times) == part.baseline.shape[1] + len(part.times)
        # Its mean was taken over all of the baseline, of which the recording has a part.
        assert_allclose(part.corrected_times[[0, -1]], [-0.2, 0.0], atol=2e-3)
        assert part.baseline_centred
        with pytest.warns(UserWarning, match="no baseline is left"):
            none = from_mne(auditory, forward, noise_cov, picks="eeg", tmin=-0.2)
        assert none.baseline is None

    def test_another_window_is_not_centred_on_itself(self, auditory, forward, noise_cov):
        problem = from_mne(auditory, forward, noise_cov, picks="eeg", baseline=(-0.15, -0.05), tmin=0.05)
        assert_allclose(problem.corrected_times[[0, -1]], [-0.2, 0.0], atol=2e-3)
        assert_allclose(problem.baseline.mean(axis=1), 0, atol=1e-12)
        assert problem.times[0] >= 0.05 - 1e-3
        assert from_mne(auditory, forward, noise_cov, picks="eeg", baseline=(-0.15, -0.05)).times[0] < -0.04

    def test_uncorrected_averages_use_what_is_before_zero(self, auditory, forward, noise_cov):
        raw = auditory.copy()
        raw.baseline = None
        problem = from_mne(raw, forward, noise_cov, picks="eeg")
        assert problem.times[0] > 0
        assert not problem.baseline_centred
        later = raw.crop(0.1, 0.2)
        assert from_mne(later, forward, noise_cov, picks="eeg").baseline is None

    def test_doors(self, auditory, forward, noise_cov):
        def problem(**options):
            return from_mne(auditory, forward, noise_cov, picks="eeg", **options)

        with pytest.raises(ValueError, match=r"runs from -0.1998 to 0.4995 s|runs from -0.199795 to 0.499488 s"):
            problem(tmin=2.0)
        with pytest.raises(ValueError, match="tmin must come first"):
            problem(tmin=0.2, tmax=0.1)
        with pytest.raises(ValueError, match="no sample comes after the baseline's end"):
            problem(tmax=-0.1)
        with pytest.raises(ValueError, match="holds 0 samples"):
            problem(baseline=(-3, -2))
        with pytest.raises(ValueError, match="no baseline named 'none'"):
            problem(baseline="none")
        with pytest.raises(ValueError, match="must be 'auto', None or"):
            problem(baseline=(0.1,))


class TestChannels:
    def test_order_of_the_info_without_anyones_bads(self, rng):
        evoked, forward, noise_cov = toy(rng)
        evoked.info["bads"] = ["eeg 3"]
        noise_cov["bads"] = ["mag 8"]
        shuffled = mne.pick_channels_forward(forward, forward["sol"]["row_names"][::-1], ordered=True)
        with pytest.warns(UserWarning, match=r"\(mag 8\) is good in the recording but bad in the noise covariance"):
            problem = from_mne(evoked, shuffled, noise_cov)
        assert problem.field.names == tuple(n for n in evoked.ch_names if n not in ("eeg 3", "mag 8"))
        rows = [forward["sol"]["row_names"].index(name) for name in problem.field.names]
        straight = mne.convert_forward_solution(forward, force_fixed=True)
        assert_array_equal(problem.lead_field.gain[:, :, 0], straight["sol"]["data"][rows])

    def test_picks_by_kind_and_name(self, rng):
        parts = toy(rng)
        assert from_mne(*parts, picks="mag").sensors.kinds == ("mag",) * 4
        assert from_mne(*parts, picks="meg").sensors.kinds == ("mag",) * 4
        assert from_mne(*parts, picks=["mag", "eeg 0", "eeg 2"]).field.names[:2] == ("eeg 0", "eeg 2")
        with pytest.raises(ValueError, match="did you mean 'mag 7'"):
            from_mne(*parts, picks=["mag 07"])
        with pytest.raises(ValueError, match="leaves no EEG"):
            from_mne(*parts, picks="grad")

    def test_a_list_of_averages_is_a_list_of_problems(self, rng):
        evoked, forward, noise_cov = toy(rng)
        other = mne.combine_evoked([evoked], [-1])
        one, two = from_mne([evoked, other], forward, noise_cov)
        assert_allclose(one.recording * np.sqrt(other.nave), -two.recording * np.sqrt(evoked.nave))
        with pytest.raises(ValueError, match="list of averages is empty"):
            from_mne([], forward, noise_cov)

    def test_epochs_are_averaged(self, rng):
        evoked, forward, noise_cov = toy(rng)
        trials = mne.EpochsArray(rng.normal(size=(5, *evoked.data.shape)) * 1e-6, evoked.info, tmin=-0.2, baseline=None)
        trials.pick("eeg")
        problem = from_mne(trials, forward, noise_cov, picks="eeg")
        assert problem.field.averages == 5
        wanted = from_mne(trials.average(), forward, noise_cov, picks="eeg")
        assert_array_equal(problem.recording, wanted.recording)
        assert 0.7 < problem.baseline_power < 1.4


class TestAverages:
    """The number of trials behind a combination of averages is a fraction, and the noise follows it."""

    @pytest.mark.parametrize(("trials", "weights"), [((2, 3), [1, -1]), ((1, 1), [1, -1]), ((3, 4), [0.2, 0.8])])
    def test_of_a_combination_are_those_of_mne(self, rng, trials, weights):
        evoked, forward, noise_cov = toy(rng)
        other = evoked.copy()
        other.data = 0.8 * other.data[:, ::-1]
        evoked.nave, other.nave = trials
        both = mne.combine_evoked([evoked, other], weights)
        assert both.nave == pytest.approx(1 / sum(w**2 / n for w, n in zip(weights, trials, strict=True)), rel=1e-12)
        problem = from_mne(both, forward, noise_cov, baseline=None)
        assert problem.field.averages == problem.noise.averages == both.nave
        operator = make_inverse_operator(both.info, forward, noise_cov, fixed=True, loose=0.0, depth=None)
        for method in ("dSPM", "sLORETA", "MNE"):
            theirs = apply_inverse(both, operator, LAMBDA2, method).data
            ours = baseline(problem, method, LAMBDA2, depth=None, convention="mne").current
            assert deviation(ours, theirs) < 1e-7

    @pytest.mark.parametrize("nave", [0, -1, np.nan, np.inf, True, None, "6", [6], 6j])
    def test_that_cannot_be(self, rng, nave):
        evoked, forward, noise_cov = toy(rng)
        evoked.nave = nave
        with pytest.raises(ValueError, match=rf"evoked.nave is {re.escape(repr(nave))}.* give averages="):
            from_mne(evoked, forward, noise_cov)
        assert from_mne(evoked, forward, noise_cov, averages=1.5).noise.averages == 1.5
        with pytest.raises(ValueError, match="averages is 0, but must be a positive number of trials"):
            from_mne(evoked, forward, noise_cov, averages=0)


class TestReference:
    def test_eeg_wants_one(self, rng):
        parts = toy(rng, reference=False)
        with pytest.raises(ValueError, match=r'evoked.set_eeg_reference\("average", projection=True\)'):
            from_mne(*parts)
        assert from_mne(*parts, picks="mag").components == 4

    def test_a_projector_or_another_reference_are_one(self, rng):
        evoked, forward, noise_cov = toy(rng, reference=False)
        inactive = evoked.copy().set_eeg_reference("average", projection=True)
        active = inactive.copy().apply_proj()
        custom = evoked.copy().set_eeg_reference(["eeg 2"])
        straight = evoked.copy().set_eeg_reference("average", projection=False)
        problems = [from_mne(one, forward, noise_cov) for one in (inactive, active, custom, straight)]
        for problem in problems:
            assert problem.noise.ranks == {"meg": 4, "eeg": 6}
            assert_allclose(problem.gain.T @ problem.recording, problems[0].gain.T @ problems[0].recording, rtol=1e-9)
        with pytest.raises(ValueError, match="refuse EEG with a custom reference"):
            to_inverse_operator(given(problems[2]))


class TestDoors:
    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_wrong_type(self, rng, which):
        parts = list(toy(rng))
        words = [
            "evoked is of type builtins.dict",
            "forward is of type builtins.dict",
            "noise_cov is of type builtins.dict",
        ]
        parts[which] = {}
        with pytest.raises(ValueError, match=words[which]):
            from_mne(*parts)

    def test_raw_is_no_average(self, rng):
        evoked, forward, noise_cov = toy(rng)
        with pytest.raises(ValueError, match=r"must be mne\.Evoked"):
            from_mne(mne.io.RawArray(evoked.data, evoked.info), forward, noise_cov)

    def test_standard_errors_are_no_average(self, rng):
        evoked, forward, noise_cov = toy(rng)
        evoked.kind = "standard_error"
        with pytest.raises(ValueError, match="is a standard error"):
            from_mne(evoked, forward, noise_cov)

    def test_nan(self, rng):
        evoked, forward, noise_cov = toy(rng)
        broken = evoked.copy()
        broken.data[2, 3] = np.nan
        with pytest.raises(ValueError, match="evoked holds 1 NaN"):
            from_mne(broken, forward, noise_cov)
        wrong = noise_cov.copy()
        wrong["data"][0, 0] = np.inf
        with pytest.raises(ValueError, match="noise covariance holds 1 NaN"):
            from_mne(evoked, forward, wrong)
        holed = forward.copy()
        holed["_orig_sol"][1, 2] = np.nan
        with pytest.raises(ValueError, match="forward holds 1 NaN"):
            from_mne(evoked, holed, noise_cov)

    def test_no_channel_in_common(self, rng):
        evoked, forward, noise_cov = toy(rng)
        with pytest.raises(ValueError, match=r"no channel is in common: .* the noise covariance has other 0"):
            from_mne(evoked, forward, mne.Covariance(np.eye(2), ["other 0", "other 1"], [], [], 9))
        renamed = evoked.copy().rename_channels({name: f"new {name}" for name in evoked.ch_names})
        with pytest.raises(ValueError, match=r"no channel is in common: .* the forward has"):
            from_mne(renamed, forward, noise_cov)

    def test_all_bad(self, rng):
        evoked, forward, noise_cov = toy(rng)
        evoked.info["bads"] = evoked.ch_names
        with pytest.raises(ValueError, match="all 11 channels are marked as bad"):
            from_mne(evoked, forward, noise_cov)

    @pytest.mark.parametrize("picks", ["eeg", None])
    def test_all_electrodes_bad_but_one(self, rng, picks):
        evoked, forward, noise_cov = toy(rng)
        evoked.info["bads"] = [f"eeg {i}" for i in (0, 1, 2, 4, 5, 6)]
        with pytest.raises(ValueError, match=r"one good electrode is left \(eeg 3\), which measures nothing"):
            from_mne(evoked, forward, noise_cov, picks=picks)
        evoked.info["bads"] = evoked.info["bads"][1:]
        assert from_mne(evoked, forward, noise_cov, picks="eeg").components == 1

    @pytest.mark.parametrize("where", ["recording", "noise covariance"])
    @pytest.mark.parametrize("picks", ["meg", None])
    def test_as_many_projectors_as_channels(self, rng, picks, where):
        evoked, forward, noise_cov = toy(rng)
        names = [name for name in evoked.ch_names if name.startswith("mag")]
        data = {"row_names": None, "col_names": names, "data": rng.normal(size=(3, 4)), "nrow": 3, "ncol": 4}
        one = mne.Projection(active=False, data=data, desc="PCA", kind=1)
        (evoked.info if where == "recording" else noise_cov)["projs"].append(one)
        evoked.info["bads"] = names[:1]
        with pytest.raises(ValueError, match=r"leave nothing of the 3 MEG channels .*\(mag 8, mag 9, mag 10\).*PCA"):
            from_mne(evoked, forward, noise_cov, picks=picks)

    @pytest.mark.parametrize(("width", "words"), [(70.0, "looks like mm"), (7e-5, "looks like m divided by 1000")])
    def test_sources_in_another_unit(self, rng, width, words):
        with pytest.raises(ValueError, match=words):
            from_mne(*toy(rng, width=width))

    def test_recording_in_another_unit(self, rng):
        evoked, forward, noise_cov = toy(rng)
        evoked.data *= 1e6
        with pytest.raises(ValueError, match="cannot be in the same units"):
            from_mne(evoked, forward, noise_cov)

    def test_covariance_of_another_recording(self, rng):
        evoked, forward, noise_cov = toy(rng)
        evoked.data *= 6
        with pytest.warns(UserWarning, match="whitened baseline has a global field power of"):
            from_mne(evoked, forward, noise_cov)

    def test_a_source_that_reaches_no_sensor(self, rng):
        evoked, forward, noise_cov = toy(rng)
        forward["_orig_sol"][:, :3] = 0
        with pytest.raises(ValueError, match="reach no sensor"):
            from_mne(evoked, forward, noise_cov)

    @pytest.mark.parametrize("picks", [5, [5], [["eeg"]], 1.5, True, b"eeg", np.arange(3), np.array(1)])
    def test_picks_that_are_no_names(self, rng, picks):
        with pytest.raises(ValueError, match=r"picks is .*, but must be 'meg', .* or of channel names"):
            from_mne(*toy(rng), picks=picks)

    def test_picks_may_be_an_array_of_names(self, rng):
        evoked, forward, noise_cov = toy(rng)
        evoked.info["bads"] = ["mag 10"]
        problem = from_mne(evoked, forward, noise_cov, picks=np.array(["mag 7", "mag 8", "mag 9"]))
        assert problem.field.names == ("mag 7", "mag 8", "mag 9")

    @pytest.mark.parametrize("end", ["tmin", "tmax"])
    @pytest.mark.parametrize("value", ["a", "0.1", True, np.nan, [0.1], 0.1j])
    def test_ends_that_are_no_times(self, rng, end, value):
        with pytest.raises(ValueError, match=rf"{end} is .*, but must be a time in s, or None; the recording runs"):
            from_mne(*toy(rng), **{end: value})

    @pytest.mark.parametrize("name", ["baseline", "baseline_correct"])
    @pytest.mark.parametrize("value", ["a", "-0.1", True, np.nan, [0.1]])
    def test_windows_whose_ends_are_no_times(self, rng, name, value):
        for window in ((value, 0), (None, value)):
            with pytest.raises(ValueError, match=rf"{name} is .*, but its ends must be times in s, or None"):
                from_mne(*toy(rng), **{name: window})

    def test_rank_of_an_unknown_group(self, rng):
        with pytest.raises(ValueError, match=r"no group of sensors .*named 'seeg'"):
            from_mne(*toy(rng), rank={"seeg": 4})

    def test_origin_is_kept(self, rng):
        evoked, forward, noise_cov = toy(rng)
        origin = from_mne(evoked, forward, noise_cov).origin
        assert isinstance(origin, Origin)
        assert origin.forward is forward
        assert origin.info["ch_names"] == evoked.ch_names


class TestOutliers:
    """Two sources of the real forward solution lie on the inner skull, where its gain has no meaning."""

    def test_are_left_out_and_named(self, full_forward, noise_cov, auditory):
        match = r"2 of 2052 sources \(39, 21\), with gains many .* are left out: .* send 68 % of the power"
        with pytest.warns(UserWarning, match=match):
            problem = from_mne(decimated(auditory), full_forward, noise_cov)
        assert problem.source_count == 2050
        assert "2 left out, as their gains are many times their neighbours' (39, 21)" in repr(problem)

    def test_that_are_kept_fail_a_check_of_every_posterior(self, full_forward, noise_cov, auditory):
        kept, rest = (from_mne(decimated(auditory), full_forward, noise_cov, outliers=one) for one in ("keep", "drop"))
        assert kept.source_norms[39] > 50 * np.median(kept.source_norms)
        for model in ("hierarchical", "minimum_norm"):
            (check,) = [one for one in infer(model, kept).checks if one.name == "outlying sources"]
            assert not check.passed
            assert check.value == pytest.approx(0.684, abs=0.001)
            assert "(39, 21)" in check.note
            assert "outlying sources" not in [one.name for one in infer(model, rest).checks]

    def test_can_be_left_out(self, full_forward, noise_cov, auditory):
        full = from_mne(decimated(auditory), full_forward, noise_cov, outliers="keep")
        rest = from_mne(decimated(auditory), full_forward, noise_cov, outliers="drop")
        retained = np.setdiff1d(np.arange(full.source_count), [21, 39])
        assert deviation(rest.gain, full.gain[:, retained]) < 1e-12
        assert_array_equal(rest.sources.vertices, full.sources.vertices[retained])
        assert not rest.outliers.size
        # Each vertex removed takes the half-dozen triangles around it with it.
        assert 0 < len(full.sources.triangles) - len(rest.sources.triangles) < 20

    def test_leave_an_operator_and_maps_that_fit(self, full_forward, noise_cov, auditory):
        problem = from_mne(decimated(auditory), full_forward, noise_cov, picks="eeg", outliers="drop")
        posterior = infer("minimum_norm", problem)
        found = apply_inverse(matching(problem, decimated(auditory)), posterior.to_inverse_operator(), LAMBDA2, "MNE")
        assert deviation(found.data, posterior.mean) < 1e-7
        assert posterior.to_mne("mean").data.shape == (problem.source_count, len(problem.times))

    def test_a_treatment_that_does_not_exist(self, forward, noise_cov, auditory):
        with pytest.raises(ValueError, match=r"no treatment of outliers named 'dorp'.*did you mean 'drop'"):
            from_mne(decimated(auditory), forward, noise_cov, outliers="dorp")

    def test_a_smooth_gain_has_none(self, rng):
        places = rng.uniform(-0.06, 0.06, (200, 3))
        gain = 1 / np.linalg.norm(rng.uniform(0.1, 0.12, (9, 1, 3)) - places, axis=2) ** 2
        problem = Problem.from_arrays(gain, np.ones((9, 4)), positions=places)
        assert not problem.outliers.size
        gain[:, 17] *= 40
        assert_array_equal(Problem.from_arrays(gain, np.ones((9, 4)), positions=places).outliers, [17])
