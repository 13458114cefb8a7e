"""Objects of MNE-Python that do not belong together are refused, or told with names and sizes."""

from __future__ import annotations

import re
import warnings

import mne
import numpy as np
import pytest
from mne.minimum_norm import apply_inverse, make_inverse_operator
from mne_objects import decimated, deviation, toy
from numpy.testing import assert_array_equal

from bayesinv import baseline, from_mne

KINDS = ("eeg",) * 7 + ("mag",) * 4 + ("grad",) * 3


@pytest.fixture(scope="module", autouse=True)
def errors_only():
    """Let MNE-Python log errors only."""
    with mne.use_log_level("ERROR"):
        yield


def moved(info, shift=(0.0, 0.0, 0.0), degrees=0.0):
    """Put the head elsewhere in the device."""
    transform = info["dev_head_t"]["trans"].copy()
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    transform[:3, :3] = turn @ transform[:3, :3]
    transform[:3, 3] += shift
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform("meg", "head", transform)


class TestCompensation:
    """The referee is MNE-Python's own refusal."""

    @staticmethod
    def graded(info, grade):
        for channel in info["chs"]:
            if mne.channel_type({"chs": [channel]}, 0) in ("mag", "grad"):
                channel["coil_type"] = (int(channel["coil_type"]) & 0xFFFF) + (grade << 16)

    @pytest.mark.parametrize(("recorded", "computed"), [(3, 0), (0, 3), (1, 3)])
    def test_other_grades_are_refused_as_by_mne(self, rng, recorded, computed):
        evoked, forward, noise_cov = toy(rng)
        self.graded(evoked.info, recorded)
        self.graded(forward["info"], computed)
        with pytest.raises(RuntimeError, match="ompensation grade"):
            make_inverse_operator(evoked.info, forward, noise_cov)
        with pytest.raises(ValueError, match=f"recording has compensation grade {recorded}, .* has grade {computed}"):
            from_mne(evoked, forward, noise_cov)
        assert from_mne(evoked, forward, noise_cov, picks="eeg").components == 6

    @pytest.mark.parametrize("grade", [0, 3])
    def test_equal_grades_are_taken(self, rng, grade):
        evoked, forward, noise_cov = toy(rng)
        self.graded(evoked.info, grade)
        self.graded(forward["info"], grade)
        assert from_mne(evoked, forward, noise_cov).components == 10

    @pytest.mark.slow
    def test_the_numbers_of_mne_at_equal_grades(self, sample):
        path = sample.parent / "systems" / "ctf-grade3-raw.fif"
        if not path.is_file():
            pytest.skip(f"no CTF recording at {path}")
        raw = mne.io.read_raw_fif(path, preload=True)
        sphere = mne.make_sphere_model((0, 0, 0.04), None)
        places = mne.setup_volume_source_space(pos=25.0, sphere=(0, 0, 0.04, 0.07), sphere_units="m", exclude=15.0)
        other = raw.copy().apply_gradient_compensation(0)
        events = mne.make_fixed_length_events(raw, duration=0.05)
        cut = {"tmin": 0, "tmax": 0.045, "baseline": None, "preload": True}
        recorded, plain = (mne.Epochs(one, events, **cut).average(picks="all") for one in (raw, other))
        noise_cov = mne.make_ad_hoc_cov(raw.info)
        forward = mne.make_forward_solution(other.info, None, places, sphere, eeg=False)
        with pytest.raises(ValueError, match=r"recording has compensation grade 3, .* grade 0"):
            from_mne(recorded, forward, noise_cov, orientation="free", head_moved="warn")
        problem = from_mne(plain, forward, noise_cov, orientation="free")
        operator = make_inverse_operator(plain.info, forward, noise_cov, loose=1.0, depth=None)
        theirs = apply_inverse(plain, operator, 1 / 9, "MNE").data
        ours = baseline(problem, "MNE", 1 / 9, depth=None, loose=1.0, convention="mne").current
        assert deviation(ours, theirs) < 1e-7
        # By default, too: places in a volume have no surface to be loose about.
        default = apply_inverse(plain, make_inverse_operator(plain.info, forward, noise_cov, depth=None), 1 / 9, "MNE")
        ours = baseline(problem, "MNE", 1 / 9, depth=None, convention="mne").current
        assert deviation(ours, default.data) < 1e-7

    def test_mixed_grades_are_no_grade(self, rng):
        evoked, forward, noise_cov = toy(rng)
        evoked.info["chs"][-1]["coil_type"] = int(evoked.info["chs"][-1]["coil_type"]) + (3 << 16)
        with pytest.raises(ValueError, match=r"different compensation grades \[0, 3\]"):
            from_mne(evoked, forward, noise_cov)


class TestHead:
    @pytest.mark.parametrize("shift", [(0.0, 0.0, 0.006), (0.004, 0.003, -0.004)])
    def test_moved_beyond_half_a_centimetre_is_refused(self, rng, shift):
        evoked, forward, noise_cov = toy(rng)
        moved(evoked.info, shift)
        size = 1e3 * np.linalg.norm(shift)
        with pytest.raises(ValueError, match=rf"{size:.1f} mm apart on it .* turned by 0.0 degrees"):
            from_mne(evoked, forward, noise_cov)
        with pytest.warns(UserWarning, match=f"{size:.1f} mm apart"):
            problem = from_mne(evoked, forward, noise_cov, head_moved="warn")
        assert problem.components == 10

    def test_moved_less_is_told_and_hardly_at_all_is_not(self, rng):
        evoked, forward, noise_cov = toy(rng)
        moved(evoked.info, (0.0, 0.0009, 0.0))
        from_mne(evoked, forward, noise_cov)
        moved(evoked.info, (0.0, 0.002, 0.0))
        with pytest.warns(UserWarning, match="head lies elsewhere .* 2.9 mm apart"):
            from_mne(evoked, forward, noise_cov)

    def test_turned_is_told_by_its_angle(self, rng):
        evoked, forward, noise_cov = toy(rng)
        moved(evoked.info, degrees=1.5)
        with pytest.warns(UserWarning, match="turned by 1.5 degrees"):
            from_mne(evoked, forward, noise_cov)
        moved(evoked.info, degrees=5.0)
        with pytest.raises(ValueError, match=r"turned by 6\.5 degrees"):
            from_mne(evoked, forward, noise_cov)

    @pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (0.0, 0.0, 0.003)])
    def test_swapped_names_are_no_movement(self, rng, shift):
        """Two far-apart sensors of one kind, whether the head moved too or not."""
        evoked, forward, noise_cov = toy(rng)
        swapped = evoked.copy().rename_channels({"mag 8": "mag 10", "mag 10": "mag 8"})
        moved(swapped.info, shift)
        one, other = (evoked.info["chs"][evoked.ch_names.index(name)]["loc"][:3] for name in ("mag 8", "mag 10"))
        apart = f"{1e3 * np.linalg.norm(one - other):.1f} mm"
        words = rf"2 of 4 MEG sensors lie elsewhere in the device .*\(mag \d+ {apart}, mag \d+ {apart}\), .*swapped"
        with pytest.raises(ValueError, match=words) as error:
            from_mne(swapped, forward, noise_cov)
        assert "degrees" not in str(error.value)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            from_mne(swapped, forward, noise_cov, head_moved="warn")
        assert any(re.search(words, str(one.message)) for one in said)
        heads = [str(one.message) for one in said if "head lies elsewhere" in str(one.message)]
        assert len(heads) == any(shift)
        assert all("3.0 mm apart" in one for one in heads)

    def test_swapped_gradiometers_of_the_real_recording(self, auditory, forward, noise_cov):
        evoked = decimated(auditory).rename_channels({"MEG 0113": "MEG 2643", "MEG 2643": "MEG 0113"})
        with pytest.raises(ValueError, match=r"2 of 305 MEG sensors lie elsewhere in the device .*MEG 0113"):
            from_mne(evoked, forward, noise_cov)

    def test_means_nothing_to_electrodes(self, rng):
        evoked, forward, noise_cov = toy(rng)
        moved(evoked.info, (0.0, 0.0, 0.05))
        assert from_mne(evoked, forward, noise_cov, picks="eeg").components == 6

    def test_places_that_are_not_known_are_not_compared(self, rng):
        evoked, forward, noise_cov = toy(rng)
        moved(evoked.info, (0.0, 0.0, 0.05))
        for channel in evoked.info["chs"]:
            channel["loc"][:3] = np.nan
        assert from_mne(evoked, forward, noise_cov).components == 10

    def test_the_real_recording(self, auditory, forward, noise_cov):
        evoked = decimated(auditory)
        moved(evoked.info, (0.0, 0.0, 0.01))
        with pytest.raises(ValueError, match=r"10.0 mm apart .* give head_moved='warn'"):
            from_mne(evoked, forward, noise_cov)

    def test_a_treatment_that_does_not_exist(self, rng):
        with pytest.raises(ValueError, match="no treatment of a moved head named 'warm'"):
            from_mne(*toy(rng), head_moved="warm")

    @pytest.mark.parametrize("which", ["recording", "device", "mri"])
    def test_transforms_in_mm(self, rng, which):
        evoked, forward, noise_cov = toy(rng)
        if which == "mri":
            forward["mri_head_t"]["trans"][:3, 3] = [3.2, -6.9, 28.0]
        else:
            moved(evoked.info if which == "recording" else forward["info"], (3.2, -6.9, 28.0))
        with pytest.raises(ValueError, match=r"moves points by 29 m, .* looks like mm"):
            from_mne(evoked, forward, noise_cov)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("place", [(0, 3), (1, 1)])
    @pytest.mark.parametrize("which", ["recording", "device", "mri"])
    def test_transforms_that_are_not_finite(self, rng, which, place, value):
        evoked, forward, noise_cov = toy(rng)
        owner, key = {
            "recording": (evoked.info, "dev_head_t"),
            "device": (forward["info"], "dev_head_t"),
            "mri": (forward, "mri_head_t"),
        }[which]
        owner[key]["trans"][place] = value
        with pytest.raises(ValueError, match=rf"\({key}\) is not finite: it holds 1 NaN or infinite values of 16"):
            from_mne(evoked, forward, noise_cov)

    def test_transforms_that_stretch(self, rng):
        evoked, forward, noise_cov = toy(rng)
        forward["mri_head_t"]["trans"][:3, :3] *= 1.1
        with pytest.raises(ValueError, match=r"mri_head_t\) is no rotation"):
            from_mne(evoked, forward, noise_cov)


class TestCoils:
    """What a coil measures is told by its axes, not by its place alone."""

    @staticmethod
    def turned(parts, name, degrees, about):
        """The recording with one coil turned about an axis of its own."""
        evoked = parts[0].copy()
        channel = evoked.info["chs"][evoked.ch_names.index(name)]
        angle, (one, two) = np.radians(degrees), [axis for axis in range(3) if axis != about]
        turn = np.eye(3)
        turn[[one, two], [one, two]] = np.cos(angle)
        turn[one, two], turn[two, one] = np.sin(angle), -np.sin(angle)
        channel["loc"][3:12] = (turn @ channel["loc"][3:12].reshape(3, 3)).ravel()
        return evoked, *parts[1:]

    @pytest.fixture(scope="class")
    @classmethod
    def parts(cls, auditory, forward, noise_cov):
        return (
            decimated(auditory).pick(["MEG 0111", "MEG 0112", "MEG 0113", "MEG 0121", "MEG 0122"]),
            forward,
            noise_cov,
        )

    @pytest.mark.parametrize(("name", "about"), [("MEG 0112", 2), ("MEG 0112", 1), ("MEG 0111", 0)])
    @pytest.mark.parametrize("degrees", [180.0, 7.0])
    def test_turned_is_refused(self, parts, name, about, degrees):
        other = self.turned(parts, name, degrees, about)
        words = rf"1 of 5 MEG coils are turned .* \({name} {degrees:g} degrees\), at their own places"
        with pytest.raises(ValueError, match=words):
            from_mne(*other, rank="info")
        with pytest.warns(UserWarning, match=words):
            from_mne(*other, rank="info", head_moved="warn")

    def test_turned_a_little_is_told(self, parts):
        with pytest.warns(UserWarning, match=r"MEG 0121 2 degrees"):
            from_mne(*self.turned(parts, "MEG 0121", 2.0, 0), rank="info")
        from_mne(*self.turned(parts, "MEG 0121", 0.5, 0), rank="info")

    def test_a_magnetometer_that_is_turned_in_its_plane_measures_the_same(self, parts):
        from_mne(*self.turned(parts, "MEG 0111", 90.0, 2), rank="info")

    def test_names_of_two_gradiometers_at_one_place_that_are_swapped(self, parts):
        evoked = parts[0].copy()
        mne.rename_channels(evoked.info, {"MEG 0112": "MEG 0113", "MEG 0113": "MEG 0112"})
        with pytest.raises(ValueError, match=r"MEG 011[23] 90 degrees, MEG 011[23] 90 degrees"):
            from_mne(evoked, *parts[1:], rank="info")

    def test_a_turn_of_the_head_is_none_of_the_coils(self, parts):
        evoked = parts[0].copy()
        moved(evoked.info, degrees=8)
        with pytest.raises(ValueError, match="the head lies elsewhere"):
            from_mne(evoked, *parts[1:], rank="info")

    def test_another_type(self, parts):
        evoked = parts[0].copy()
        for name, kind in (("MEG 0111", 3022), ("MEG 0121", 2000)):
            evoked.info["chs"][evoked.ch_names.index(name)]["coil_type"] = kind
        with pytest.warns(UserWarning, match=r"1 of 5 MEG coils \(MEG 0121\) are of another type .* 2000 and 3024"):
            from_mne(evoked, *parts[1:], rank="info")


class TestElectrodes:
    def test_elsewhere_are_named_with_distances(self, rng):
        evoked, forward, noise_cov = toy(rng)
        evoked.info["chs"][3]["loc"][:3] += [0.0, 0.012, 0.0]
        evoked.info["chs"][5]["loc"][:3] += [0.003, 0.0, 0.0]
        with pytest.warns(UserWarning, match=r"2 of 7 electrodes lie .* \(eeg 3 12.0 mm, eeg 5 3.0 mm; root mean sq"):
            from_mne(evoked, forward, noise_cov)
        assert from_mne(evoked, forward, noise_cov, picks="mag").components == 4

    def test_rounding_is_no_distance(self, rng):
        evoked, forward, noise_cov = toy(rng)
        for channel in evoked.info["chs"]:
            channel["loc"] = channel["loc"].astype(np.float32).astype(float)
        assert from_mne(evoked, forward, noise_cov).components == 10

    @pytest.mark.parametrize("first", [0, 6])
    def test_bipolar_are_left_out(self, rng, first):
        """MNE-Python gives the difference the anode's name only if told so; then the forward solution has it."""
        evoked, forward, noise_cov = toy(rng)
        names = evoked.ch_names
        pair = mne.set_bipolar_reference(evoked, names[first], names[2], ch_name="pair").rename_channels(
            {"pair": names[first]}
        )
        with pytest.warns(UserWarning, match=f"{names[first]} is bipolar"):
            problem = from_mne(pair, forward, noise_cov)
        assert problem.field.names == tuple(name for name in pair.ch_names if name != names[first])
        with pytest.warns(UserWarning, match="is bipolar"), pytest.raises(ValueError, match="no channel is left"):
            from_mne(pair, forward, noise_cov, picks=[names[first]])


class TestNames:
    @pytest.mark.parametrize("spell", [str.upper, lambda name: name.replace(" ", ""), lambda name: f"{name} "])
    def test_case_and_blanks_are_told(self, rng, spell):
        evoked, forward, noise_cov = toy(rng)
        evoked.rename_channels({name: spell(name) for name in evoked.ch_names if name.startswith("eeg")})
        with pytest.warns(UserWarning, match=r"7 of 7 EEG channels .* names of 7 of them differ only in case or bl"):
            problem = from_mne(evoked, forward, noise_cov)
        assert problem.sensors.kinds == ("mag",) * 4

    @pytest.mark.parametrize("kind", ["eeg", ""])
    def test_the_odd_one_is_to_be_renamed(self, rng, kind):
        """Renaming as the words say mends it."""
        evoked, forward, noise_cov = toy(rng)
        wanted = from_mne(evoked, forward, noise_cov).gain
        upper = {name: name.upper() for name in evoked.ch_names if name.startswith(kind)}
        lower = {new: name for name, new in upper.items()}

        def told(words):
            if kind:
                with pytest.warns(UserWarning, match=words):
                    from_mne(evoked, forward, noise_cov)
            else:
                with pytest.raises(ValueError, match=words):
                    from_mne(evoked, forward, noise_cov)

        evoked.rename_channels(upper)
        told("evoked.rename_channels makes them one")
        evoked.rename_channels(lower)
        noise_cov["names"] = [upper.get(name, name) for name in noise_cov["names"]]
        told(r'rename those of the covariance \(noise_cov\["names"\]\)')
        noise_cov["names"] = [lower.get(name, name) for name in noise_cov["names"]]
        for names in (upper, lower):
            if names is lower:
                told(r'rename those of the forward solution \(forward\["sol"\]\["row_names"\]')
            forward["sol"]["row_names"] = [names.get(name, name) for name in forward["sol"]["row_names"]]
            mne.rename_channels(forward["info"], names)
        assert_array_equal(from_mne(evoked, forward, noise_cov).gain, wanted)

    @pytest.mark.parametrize("picks", [["meg", "eeg"], ["mag", "eeg"]])
    def test_a_kind_that_was_asked_for_is_never_lost(self, rng, picks):
        evoked, forward, noise_cov = toy(rng)
        evoked.rename_channels({name: name.upper() for name in evoked.ch_names if name.startswith("eeg")})
        with (
            pytest.warns(UserWarning, match="not in the forward solution"),
            pytest.raises(ValueError, match=r"picks names 'eeg', .*\(7 not in the forward solution\).*'EEG 0' for 'ee"),
        ):
            from_mne(evoked, forward, noise_cov, picks=picks)

    def test_a_kind_that_was_asked_for_and_is_bad_or_absent(self, rng):
        evoked, forward, noise_cov = toy(rng)
        with pytest.raises(ValueError, match=r"picks names 'grad', .*\(the recording has none\)"):
            from_mne(evoked, forward, noise_cov, picks=["eeg", "grad"])
        evoked.info["bads"] = [name for name in evoked.ch_names if name.startswith("mag")]
        with pytest.raises(ValueError, match=r"picks names 'meg', .*\(4 bad in the recording\)"):
            from_mne(evoked, forward, noise_cov, picks=["meg", "eeg"])

    def test_strangers_in_case_alone(self, rng):
        evoked, forward, noise_cov = toy(rng)
        evoked.rename_channels({name: name.upper() for name in evoked.ch_names})
        with pytest.raises(ValueError, match=r"no channel is in common: .*differ only in case or blanks"):
            from_mne(evoked, forward, noise_cov)

    @pytest.mark.parametrize("lacking", ["forward solution", "noise covariance"])
    def test_channels_that_are_missing_are_counted_by_kind(self, rng, lacking):
        evoked, forward, noise_cov = toy(rng, KINDS)
        kept = [name for i, name in enumerate(evoked.ch_names) if i not in (2, 4, 8, 13)]
        if lacking == "forward solution":
            forward = mne.pick_channels_forward(forward, kept, ordered=True)
        else:
            noise_cov = mne.pick_channels_cov(noise_cov, kept, ordered=True)
        words = r"2 of 7 EEG and 1 of 4 magnetometer and 1 of 3 gradiometer channels .*\(eeg 2, eeg 4, mag 8, grad 13\)"
        with pytest.warns(UserWarning, match=f"{words} are not in the {lacking}"):
            problem = from_mne(evoked, forward, noise_cov)
        assert problem.field.names == tuple(kept)

    def test_missing_channels_that_are_bad_are_not_missed(self, rng):
        evoked, forward, noise_cov = toy(rng)
        evoked.info["bads"] = ["eeg 2", "mag 8"]
        kept = [name for name in evoked.ch_names if name not in evoked.info["bads"]]
        noise_cov = mne.pick_channels_cov(noise_cov, kept, ordered=True)
        assert from_mne(evoked, forward, noise_cov).field.names == tuple(kept)

    @pytest.mark.parametrize("where", ["forward solution", "noise covariance"])
    def test_bad_elsewhere_alone(self, rng, where):
        evoked, forward, noise_cov = toy(rng)
        (forward["info"] if where == "forward solution" else noise_cov)["bads"] = ["eeg 1", "mag 9"]
        with pytest.warns(UserWarning, match=rf"\(eeg 1, mag 9\) are good in the recording but bad in the {where}"):
            problem = from_mne(evoked, forward, noise_cov)
        assert_array_equal([name for name in evoked.ch_names if name not in problem.field.names], ["eeg 1", "mag 9"])
        evoked.info["bads"] = ["eeg 1", "mag 9"]
        from_mne(evoked, forward, noise_cov)

    def test_a_bad_channel_that_was_asked_for_by_name(self, rng):
        evoked, forward, noise_cov = toy(rng)
        evoked.info["bads"] = ["mag 8"]
        with pytest.warns(UserWarning, match=r"picks names mag 8, but info\['bads'\] marks it as bad; left out"):
            problem = from_mne(evoked, forward, noise_cov, picks=["mag 7", "mag 8", "mag 9"])
        assert problem.field.names == ("mag 7", "mag 9")
        assert len(from_mne(evoked, forward, noise_cov, picks="mag").field.names) == 3

    def test_a_name_of_another_kind(self, rng):
        evoked, forward, noise_cov = toy(rng, KINDS)
        other = evoked.copy().rename_channels({"mag 8": "grad 12", "grad 12": "mag 8"})
        with pytest.raises(ValueError, match=r"2 channels \(grad 12, mag 8\) .* such as magnetometer and gradiometer"):
            from_mne(other, forward, noise_cov)


class TestProjectors:
    @staticmethod
    def projector(names, vector, desc="PCA-v1"):
        data = {"row_names": None, "col_names": list(names), "data": vector[None], "nrow": 1, "ncol": len(names)}
        return mne.Projection(active=False, data=data, desc=desc, kind=1)

    def test_one_of_the_covariance_alone_is_told(self, rng):
        evoked, forward, noise_cov = toy(rng)
        names = [name for name in evoked.ch_names if name.startswith("mag")]
        one, other = (self.projector(names, vector) for vector in rng.normal(size=(2, 4)))
        noise_cov["projs"] = [one]
        with pytest.warns(UserWarning, match=r"1 projector of the noise covariance \(PCA-v1\) is not among the rec"):
            assert from_mne(evoked, forward, noise_cov).noise.ranks["meg"] == 3
        evoked.add_proj(other)
        with pytest.warns(UserWarning, match="PCA-v1"):
            assert from_mne(evoked, forward, noise_cov).noise.ranks["meg"] == 2
        noise_cov["projs"] = [self.projector(names, -other["data"]["data"][0])]
        assert from_mne(evoked, forward, noise_cov).noise.ranks["meg"] == 3
        noise_cov["projs"] = []
        assert from_mne(evoked, forward, noise_cov).noise.ranks["meg"] == 3
