"""Ranks are MNE-Python's where sensors measure, and do not hang on rounding where some do not."""

from __future__ import annotations

import warnings

import mne
import numpy as np
import pytest
from mne_objects import decimated, toy
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv import from_mne, infer
from bayesinv.bridges.mne_operator import to_inverse_operator

ODD = "EEG 053"


@pytest.fixture(scope="module", autouse=True)
def errors_only():
    """Let MNE-Python log errors only."""
    with mne.use_log_level("ERROR"):
        yield


@pytest.fixture(scope="module")
def eeg(auditory, forward, noise_cov):
    """The real EEG with all electrodes good, decimated."""
    evoked = decimated(auditory, 10)
    evoked.info["bads"] = []
    clean = forward.copy()
    clean["info"]["bads"] = []
    names = [name for name in evoked.ch_names if name.startswith("EEG")]
    return evoked.pick(names, exclude=[]), clean, mne.pick_channels_cov(noise_cov, names, ordered=True)


def changed(eeg, combine, own=0.0):
    """Electrodes of recording and covariance combined, with a little noise of the odd one's own."""
    evoked, forward, noise_cov = eeg
    evoked, noise_cov = evoked.copy(), noise_cov.copy()
    odd = evoked.ch_names.index(ODD)
    table = noise_cov["data"] + 0.1 * np.diag(np.diag(noise_cov["data"]))
    usual = np.median(np.diag(table))
    noise_cov["data"] = combine @ table @ combine.T
    noise_cov["data"][odd, odd] += own * usual
    evoked.data = combine @ evoked.data
    return evoked, forward, noise_cov


def interpolation(eeg, sensors=(ODD,)):
    """The matrix (sensor, sensor) that interpolates electrodes, by MNE-Python."""
    info = eeg[0].info.copy()
    info["bads"] = list(sensors)
    return mne.EvokedArray(np.eye(len(info["ch_names"])), info).interpolate_bads(reset_bads=True).data


def snr(problem):
    return infer("hierarchical", problem).hyper["snr"].mean


def without(parts, *names):
    evoked, forward, noise_cov = parts
    evoked = evoked.copy()
    evoked.info["bads"] = list(names)
    return evoked, forward, noise_cov


class TestDependentElectrodes:
    @pytest.mark.parametrize("own", [0.0, 1e-15, 1e-13, 1e-10, 1e-6, 1e-4])
    def test_an_interpolated_one_changes_nothing_whatever_its_rounding(self, eeg, own):
        parts = changed(eeg, interpolation(eeg), own)
        left_out = from_mne(*without(parts, ODD), tmax=0.3)
        with pytest.warns(UserWarning, match=rf"noise of 1 EEG channel is a combination of the others' \({ODD} "):
            problem = from_mne(*parts, tmax=0.3)
        assert problem.noise.ranks == {"eeg": 58} == left_out.noise.ranks
        assert snr(problem) == pytest.approx(snr(left_out), rel=0.05)

    def test_several_are_named(self, eeg):
        odd = ["EEG 010", "EEG 033", ODD]
        parts = changed(eeg, interpolation(eeg, odd))
        with pytest.warns(UserWarning, match="noise of 3 EEG channels") as told:
            problem = from_mne(*parts, tmax=0.3)
        assert all(name in str(told[0].message) for name in odd)
        assert problem.noise.ranks == {"eeg": 56}
        assert snr(problem) == pytest.approx(snr(from_mne(*without(parts, *odd), tmax=0.3)), rel=0.05)

    @pytest.mark.parametrize("together", [False, True])
    @pytest.mark.parametrize("many", [1, 4, 6, 8])
    def test_many_are_all_found_and_count_for_nothing(self, eeg, rng, many, together):
        """Scattered, or next to each other, where they are extrapolated."""
        names = np.array(eeg[0].ch_names)
        places = np.array([channel["loc"][:3] for channel in eeg[0].info["chs"]])
        near = np.argsort(np.linalg.norm(places - places[22], axis=1))  # the nape
        odd = list(names[near[:many] if together else rng.choice(60, many, replace=False)])
        parts = changed(eeg, interpolation(eeg, odd))
        with pytest.warns(UserWarning, match=f"noise of {many} EEG channel"):
            problem = from_mne(*parts, tmax=0.3)
        assert all(name in problem.notes["noise"] for name in odd)
        left_out = from_mne(*without(parts, *odd), tmax=0.3)
        inner = [one.gain[:, ::20].T @ one.recording for one in (problem, left_out)]
        assert_allclose(*inner, atol=1e-5 * np.abs(inner[1]).max())

    def test_those_of_the_recording_alone_are_named(self, eeg):
        """The covariance is from before the interpolation."""
        odd = ["EEG 010", "EEG 033", ODD]
        evoked, forward, noise_cov = changed(eeg, np.eye(60))
        evoked.data = np.float32(interpolation(eeg, odd) @ evoked.data)
        match = r"3 EEG channels of the recording \(EEG 010, EEG 033, EEG 053\) are combinations of the others"
        with pytest.warns(UserWarning, match=match):
            problem = from_mne(evoked, forward, noise_cov, tmax=0.3)
        assert "too little in 43 samples to tell whether some of the 60 EEG channels" in problem.notes["sensors"]
        assert "3 a combination of others in the recording (EEG 010, EEG 033, EEG 053)" in problem.notes["sensors"]
        left_out = from_mne(*without((evoked, forward, noise_cov), *odd), tmax=0.3)
        assert problem.noise.ranks == {"eeg": 56} == left_out.noise.ranks
        assert_array_equal(problem.gain, left_out.gain)
        assert snr(problem) == snr(left_out)

    @pytest.mark.parametrize("many", [1, 6, 12])
    def test_those_of_the_recording_alone_leave_the_signal_what_it_is(self, auditory, forward, noise_cov, rng, many):
        evoked = decimated(auditory, 10).pick("eeg", exclude="bads")
        evoked.info["bads"] = list(rng.choice(evoked.ch_names, many, replace=False))
        mended = evoked.copy().interpolate_bads(reset_bads=True)
        with pytest.warns(UserWarning, match=rf"{many} EEG channels? of the recording .*; (is|are) left out"):
            problem = from_mne(mended, forward, noise_cov, tmin=0.05, tmax=0.15)
        wanted = snr(from_mne(evoked, forward, noise_cov, tmin=0.05, tmax=0.15))
        assert snr(problem) == pytest.approx(wanted, rel=1e-6)

    @pytest.mark.parametrize("cutoff", [None, 40.0, 20.0, 5.0])
    def test_those_of_a_long_recording_by_no_spline(self, auditory, forward, noise_cov, cutoff):
        """The mean of neighbours, and a bridge; none is named where all measure, smooth as they may be."""
        evoked = auditory.copy().pick("eeg", exclude="bads").filter(None, cutoff, verbose="ERROR")
        combine = np.eye(59)
        combine[9], combine[40] = combine[[8, 10, 11]].mean(axis=0), combine[41]
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            problem = from_mne(evoked, forward, noise_cov)
            assert not [one for one in told if "of the others" in str(one.message)]
            evoked.data = combine @ evoked.data
            from_mne(evoked, forward, noise_cov)
        words = [str(one.message) for one in told if "of the others" in str(one.message)]
        if "too little" in problem.notes["sensors"]:
            assert cutoff in (20.0, 5.0)
            return
        assert len(words) == 1
        assert "2 EEG channels of the recording" in words[0]
        assert evoked.ch_names[9] in words[0]
        assert (evoked.ch_names[40] in words[0]) != (evoked.ch_names[41] in words[0])

    def test_a_field_without_noise_is_not_taken_for_interpolated(self, eeg, rng):
        evoked, forward, noise_cov = changed(eeg, np.eye(60))
        gain = mne.convert_forward_solution(forward, force_fixed=True)
        rows = [gain["sol"]["row_names"].index(name) for name in evoked.ch_names]
        gain = gain["sol"]["data"][rows]
        for many in (1, 2, 5):
            columns = gain[:, rng.choice(gain.shape[1], many, replace=False)]
            evoked.data = 1e-8 * columns @ rng.normal(size=(many, len(evoked.times)))
            with warnings.catch_warnings():
                warnings.filterwarnings("error", ".*of the others.*")
                warnings.filterwarnings("ignore", "the .*baseline")
                from_mne(evoked, forward, noise_cov)

    def test_a_reference_added_to_what_had_one(self, eeg):
        """The other electrodes are against their average, and the added one is zero: it measures nothing."""
        count = len(eeg[0].ch_names)
        odd = eeg[0].ch_names.index(ODD)
        others = np.arange(count) != odd
        combine = np.diag(others.astype(float)) - np.outer(others, others) / others.sum()
        parts = changed(eeg, combine)
        with pytest.warns(UserWarning, match=ODD):
            problem = from_mne(*parts, tmax=0.3)
        assert problem.noise.ranks == {"eeg": 58}
        assert snr(problem) == pytest.approx(snr(from_mne(*without(parts, ODD), tmax=0.3)), rel=0.05)

    def test_a_reference_that_truly_was_one_is_an_electrode(self, eeg):
        """Potentials against an electrode, and zero at it, are those against the average but for the reference."""
        count = len(eeg[0].ch_names)
        against = np.eye(count)
        against[:, eeg[0].ch_names.index(ODD)] -= 1.0
        problem, straight = from_mne(*changed(eeg, against)), from_mne(*changed(eeg, np.eye(count)))
        assert problem.noise.ranks == {"eeg": 59}
        inner = [one.gain[:, ::20].T @ one.recording for one in (problem, straight)]
        assert_allclose(*inner, atol=1e-7 * np.abs(inner[1]).max())

    @pytest.mark.slow
    @pytest.mark.parametrize("names", [["MEG 0113"], ["MEG 1621", "MEG 2043"]])
    def test_interpolated_coils(self, auditory, forward, noise_cov, names):
        evoked = decimated(auditory).pick("meg", exclude=[])
        info = mne.pick_info(evoked.info, np.arange(len(evoked.ch_names)))
        info["bads"] = [*names, "MEG 2443"]
        with info._unlock():
            info["projs"] = []
        count = len(evoked.ch_names)
        combine = mne.EvokedArray(np.eye(count), info).interpolate_bads(reset_bads=True).data
        covariance = mne.pick_channels_cov(noise_cov, evoked.ch_names, exclude=[], ordered=True)
        covariance["data"] = combine @ covariance["data"] @ combine.T
        evoked.data = combine @ evoked.data
        with pytest.warns(UserWarning, match=rf"noise of {len(names)} MEG channel") as told:
            problem = from_mne(evoked, forward, covariance)
        assert all(name in str(told[0].message) for name in names)
        assert problem.noise.ranks == {"meg": 302 - len(names)}

    def test_a_bridge(self, eeg):
        combine = np.eye(len(eeg[0].ch_names))
        one, two = (eeg[0].ch_names.index(name) for name in ("EEG 010", "EEG 011"))
        combine[one] = combine[two]
        parts = changed(eeg, combine)
        with pytest.warns(UserWarning, match=r"EEG 01[01] "):
            problem = from_mne(*parts, tmax=0.3)
        assert snr(problem) == pytest.approx(snr(from_mne(*without(parts, "EEG 010"), tmax=0.3)), rel=0.05)

    def test_a_rank_that_is_given_is_taken(self, eeg):
        parts = changed(eeg, interpolation(eeg), 1e-4)
        for rank, count in (({"eeg": 59}, 59), ("info", 59), (55, 55)):
            with pytest.warns(UserWarning, match=rf"1 EEG channel of the recording \({ODD}\) is a combination"):
                problem = from_mne(*parts, rank=rank)
            assert problem.noise.ranks == {"eeg": count}

    def test_an_operator_of_what_is_left(self, eeg):
        with pytest.warns(UserWarning, match=ODD):
            problem = from_mne(*changed(eeg, interpolation(eeg), 1e-6), tmax=0.3)
        posterior = infer("minimum_norm", problem)
        assert to_inverse_operator(posterior)["nsource"] == problem.source_count

    def test_single_precision_of_a_removed_component(self, eeg):
        """MNE-Python takes the rounding of a component that was removed for noise; its part is no electrode's."""
        component = np.sign(np.sin(np.arange(60) + 0.5)) / np.sqrt(60)
        component -= component.mean()
        component /= np.linalg.norm(component)
        evoked, forward, noise_cov = changed(eeg, np.eye(60) - np.outer(component, component))
        noise_cov["data"] += 1e-13 * np.median(np.diag(noise_cov["data"])) * np.eye(60)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            ranks = from_mne(evoked, forward, noise_cov).noise.ranks
        assert ranks == {"eeg": 58}
        assert not [one for one in told if "combination of the others" in str(one.message)]


class TestRank:
    @pytest.mark.parametrize("kind", ["empirical", "diagonal", "ad hoc", "regularised", "shrunk"])
    def test_of_ordinary_recordings_is_that_of_mne(self, auditory, forward, noise_cov, kind):
        evoked = decimated(auditory)
        covariance = {
            "empirical": lambda: noise_cov,
            "diagonal": lambda: noise_cov.copy().as_diag(),
            "ad hoc": lambda: mne.make_ad_hoc_cov(evoked.info),
            "regularised": lambda: mne.cov.regularize(noise_cov, evoked.info),
            "shrunk": lambda: mne.Covariance(
                0.9 * noise_cov["data"] + 0.1 * np.diag(np.diag(noise_cov["data"])),
                noise_cov.ch_names,
                [],
                noise_cov["projs"],
                1000,
            ),
        }[kind]()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the whitened baseline")
            problem = from_mne(evoked, forward, covariance)
        assert problem.noise.ranks == {"meg": 302, "eeg": 58}
        info = mne.pick_info(evoked.info, [evoked.ch_names.index(name) for name in problem.field.names])
        assert problem.noise.ranks == mne.compute_rank(covariance, info=info)

    def test_of_what_signal_space_separation_leaves(self, auditory, forward, rng):
        evoked = decimated(auditory).pick("meg")
        names = evoked.ch_names
        unit = np.where(np.array(evoked.get_channel_types()) == "mag", 1e-14, 1e-13)
        inside = np.linalg.qr(rng.normal(size=(len(names), 70)))[0]
        table = unit[:, None] * (inside * np.geomspace(1, 100, 70)) @ inside.T * unit
        covariance = mne.Covariance(table, names, evoked.info["bads"], [], 10000)
        with evoked.info._unlock():
            evoked.info["projs"] = []
        with pytest.warns(UserWarning, match=r"rank 70 for 305 MEG channels, of which .* leave 305: only 70"):
            problem = from_mne(evoked, forward, covariance, baseline=None)
        assert problem.noise.ranks == {"meg": 70}
        assert from_mne(evoked, forward, covariance, baseline=None, rank={"meg": 70}).noise.ranks == {"meg": 70}

    def test_of_a_spectrum_that_decays_to_rounding_is_what_can_be_whitened(self, auditory, forward, rng):
        evoked = decimated(auditory).pick("mag")
        with evoked.info._unlock():
            evoked.info["projs"] = []
        names = evoked.ch_names
        basis = np.linalg.qr(rng.normal(size=(len(names), len(names))))[0]
        root = 1e-13 * basis * np.geomspace(1, 1e-10, len(names))
        covariance = mne.Covariance(root @ root.T, names, evoked.info["bads"], [], 10000)
        evoked.data = root @ rng.normal(size=evoked.data.shape)
        with pytest.warns(UserWarning, match="only .* directions of the recording are used"):
            problem = from_mne(evoked, forward, covariance, baseline=None)
        W = problem.noise.whitener
        assert 40 < len(W) < 75
        assert_allclose(W @ problem.noise.covariance @ W.T / problem.noise.averages, np.eye(len(W)), atol=1e-4)

    def test_from_the_info_is_that_of_mne(self, auditory, forward, noise_cov):
        evoked = decimated(auditory)
        problem = from_mne(evoked, forward, noise_cov, rank="info")
        info = mne.pick_info(evoked.info, [evoked.ch_names.index(name) for name in problem.field.names])
        assert problem.noise.ranks == mne.compute_rank(noise_cov, "info", info=info)

    def test_full_is_all_that_projectors_leave(self, rng):
        evoked, forward, noise_cov = toy(rng, reference=False)
        average = evoked.copy().set_eeg_reference("average", projection=True)
        assert from_mne(average, forward, noise_cov, rank="full").noise.ranks == {"meg": 4, "eeg": 6}
        custom = evoked.copy().set_eeg_reference(["eeg 2"])
        for rank in ("full", "info"):
            assert from_mne(custom, forward, noise_cov, rank=rank).noise.ranks == {"meg": 4, "eeg": 6}

    def test_by_kind_of_coil(self, rng):
        evoked, forward, noise_cov = toy(rng, ("eeg",) * 5 + ("mag",) * 4 + ("grad",) * 3)
        given = from_mne(evoked, forward, noise_cov, rank={"mag": 3, "grad": 2, "eeg": 4})
        assert given.noise.ranks == {"meg": 5, "eeg": 4}
        for rank in ({"mag": 3}, {"mag": 3, "grad": 2, "meg": 5}):
            with pytest.raises(ValueError, match="magnetometers and gradiometers are whitened together"):
                from_mne(evoked, forward, noise_cov, rank=rank)

    def test_words_that_are_none(self, rng):
        with pytest.raises(
            ValueError, match=r"no rank named 'ful': did you mean 'full'\? There are full, info, or give a number"
        ):
            from_mne(*toy(rng), rank="ful")

    @pytest.mark.parametrize("value", [5.5, True, "6", None, [6], np.nan, np.inf, 1 + 0j])
    def test_what_is_no_whole_number(self, rng, value):
        parts = toy(rng)
        with pytest.raises(ValueError, match=r"rank .* was given for the eeg sensors, but a rank is a whole number"):
            from_mne(*parts, rank={"eeg": value})
        if value is not None:
            with pytest.raises(ValueError, match=r"a rank is a whole number|no rank named '6'; there are"):
                from_mne(*parts, picks="eeg", rank=value)

    @pytest.mark.parametrize("value", [5, 5.0, np.int32(5), np.float32(5)])
    def test_whole_numbers_of_any_type(self, rng, value):
        parts = toy(rng)
        assert from_mne(*parts, picks="eeg", rank=value).noise.ranks == {"eeg": 5}
        assert from_mne(*parts, rank={"eeg": value, "mag": 4}).noise.ranks == {"meg": 4, "eeg": 5}

    @pytest.mark.parametrize("rank", [{"meg": 4}, {"meg": 4, "eeg": 6}, {"mag": 4, "eeg": 6}, {"grad": 4}])
    def test_of_sensors_that_are_not_there(self, rng, rank):
        with pytest.raises(ValueError, match=r"rank 4 was given for the \w+ sensors, but no .* channel is used; leave"):
            from_mne(*toy(rng), picks="eeg", rank=rank)

    def test_of_nothing(self, rng):
        with pytest.raises(ValueError, match=r"rank is \{\}, which gives none"):
            from_mne(*toy(rng), rank={})

    def test_a_rank_does_not_change_the_covariance(self, rng):
        parts = toy(rng)
        one, two = (from_mne(*parts, rank=rank).noise.covariance for rank in (None, "full"))
        assert_array_equal(one, two)
        assert_allclose(one, one.T)


class TestForeignCovariance:
    """Names that do not belong to rows, and channels or samples that are far too few."""

    def test_names_shuffled_among_kinds_are_refused(self, auditory, forward, noise_cov, rng):
        noise_cov = noise_cov.copy()
        noise_cov["names"] = list(rng.permutation(noise_cov.ch_names))
        for picks in ("eeg", "meg", None):
            with pytest.raises(ValueError, match=r"channels \(.*\) is that of another kind of sensor: .* names"):
                from_mne(decimated(auditory), forward, noise_cov, picks=picks)

    def test_channels_that_are_noisy_or_dead_are_no_other_kind(self, auditory, forward, noise_cov):
        noise_cov = noise_cov.copy()
        for i, factor in ((10, 1e3), (50, 1e3), (320, 1e3), (330, 1e3), (340, 0.0), (350, 1e-14)):
            noise_cov["data"][i] *= factor
            noise_cov["data"][:, i] *= factor
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from_mne(decimated(auditory), forward, noise_cov, baseline=None)

    @pytest.mark.parametrize(("picks", "all_that"), [("eeg", "59 EEG channels, .* 58"), ("meg", "305 MEG .* 302")])
    def test_too_few_samples(self, auditory, forward, noise_cov, rng, picks, all_that):
        values, vectors = np.linalg.eigh(noise_cov["data"])
        some = (vectors * np.sqrt(np.maximum(values, 0.0))) @ rng.normal(size=(len(values), 11))
        given = mne.Covariance(some @ some.T / 11, noise_cov.ch_names, [], noise_cov["projs"], 11)
        match = rf"has rank 1[01] for {all_that}: only 1[01] directions .* it is of 11 samples,.*mne\.cov\.regularize"
        with pytest.warns(UserWarning, match=match):
            problem = from_mne(decimated(auditory), forward, given, picks=picks, baseline=None)
        assert problem.components in (10, 11)

    def test_most_channels_absent(self, auditory, forward, noise_cov):
        some = mne.pick_channels_cov(noise_cov, [name for name in noise_cov.ch_names if "EEG" in name][:9])
        with pytest.warns(UserWarning, match=r"50 of 60 EEG .* not in the noise covariance .* most of a kind: compute"):
            from_mne(decimated(auditory), forward, some, picks="eeg", baseline=None)

    def test_magnetometers_of_which_projectors_take_all(self, auditory, forward, noise_cov):
        """Their noise is rounding, and no direction of the rank; three of nine coils are magnetometers."""
        some = mne.pick_channels_cov(noise_cov, [name for name in noise_cov.ch_names if "MEG" in name][:9])
        with pytest.warns(UserWarning, match="296 of|99 of 102 magnetometer"):
            problem = from_mne(decimated(auditory), forward, some, picks="meg", baseline=None)
        assert problem.noise.ranks == {"meg": 6}


@pytest.mark.parametrize("picks", ["eeg", "meg", None])
def test_a_recording_that_is_zero_is_refused(auditory, forward, noise_cov, picks):
    evoked = decimated(auditory)
    for kind in ("eeg", "meg") if picks is None else (picks,):
        some = evoked.copy()
        some.data[mne.pick_types(some.info, meg=kind == "meg", eeg=kind == "eeg", exclude=[])] = 0.0
        with pytest.raises(ValueError, match=rf"zero everywhere in all \d+ {kind.upper()} channels"):
            from_mne(some, forward, noise_cov, picks=picks)
