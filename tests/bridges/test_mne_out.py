"""Back to MNE-Python: maps and inverse operators give its numbers."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from mne.minimum_norm import apply_inverse, prepare_inverse_operator, read_inverse_operator, write_inverse_operator
from mne_objects import classical, decimated, deviation, given, matching
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv import Problem, Sources, from_mne, infer
from bayesinv.bridges.mne_maps import to_mne
from bayesinv.bridges.mne_operator import to_inverse_operator

LAMBDA2 = 1 / 9
PICKS = ["meg", "eeg", None]

# Where dSPM with loose orientation peaks, MRI mm.
DSPM_PEAKS = {
    "Right Auditory": {"meg": (-43, -21, 30), "eeg": (-43, -21, 30)},
    "Right visual": {"meg": (-18, -77, -4), "eeg": (-24, -75, 10)},
}


@pytest.fixture(scope="module", autouse=True)
def errors_only():
    """Let MNE-Python log errors only."""
    with mne.use_log_level("ERROR"):
        yield


class TestPosteriorMean:
    @pytest.mark.parametrize("picks", PICKS)
    def test_at_given_scales_is_the_minimum_norm_of_mne(self, auditory, forward, noise_cov, picks):
        evoked = decimated(auditory)
        problem = from_mne(evoked, forward, noise_cov, picks=picks)
        posterior = infer("minimum_norm", problem)
        theirs = apply_inverse(
            matching(problem, evoked), classical(problem, evoked, forward, noise_cov), LAMBDA2, "MNE"
        )
        assert deviation(posterior.mean, np.abs(theirs.data) * np.sign(posterior.mean)) < 1e-7
        assert deviation(posterior.mean, theirs.data) < 1e-7

    @pytest.mark.parametrize("picks", ["eeg", "grad"])
    def test_free_orientation(self, auditory, forward, noise_cov, picks):
        evoked = decimated(auditory)
        problem = from_mne(evoked, forward, noise_cov, orientation="free", picks=picks)
        operator = classical(problem, evoked, forward, noise_cov)
        theirs = apply_inverse(matching(problem, evoked), operator, LAMBDA2, "MNE", pick_ori="vector")
        assert deviation(infer("minimum_norm", problem).mean, theirs.data) < 1e-7

    @pytest.mark.parametrize("orientation", ["fixed", "free"])
    def test_prior_minus_posterior_variance_is_the_divisor_of_sloreta(self, auditory, forward, noise_cov, orientation):
        evoked = decimated(auditory)
        problem = from_mne(evoked, forward, noise_cov, orientation=orientation, picks="eeg", noise_time="white")
        posterior = infer("minimum_norm", problem)
        operator = classical(problem, evoked, forward, noise_cov)
        theirs = 1 / prepare_inverse_operator(operator, evoked.nave, LAMBDA2, "sLORETA")["noisenorm"] ** 2
        reduction = (posterior.prior_variance - posterior.within_variance).reshape(problem.source_count, -1).sum(axis=1)
        assert_allclose(reduction, theirs.ravel(), rtol=1e-7)


class TestInverseOperator:
    """MNE-Python applies the learned λ by its own functions, at its own default lambda2."""

    @pytest.mark.parametrize(("orientation", "pick"), [("fixed", None), ("free", "vector")])
    def test_gives_the_posterior_mean_and_its_residual(self, auditory, forward, noise_cov, orientation, pick):
        evoked = decimated(auditory)
        problem = from_mne(evoked, forward, noise_cov, orientation=orientation, picks="eeg")
        posterior = infer("hierarchical", problem)
        assert len(posterior.mixture.weights) > 1
        operator = posterior.to_inverse_operator()
        shown = matching(problem, evoked)
        theirs, residual = apply_inverse(shown, operator, method="MNE", pick_ori=pick, return_residual=True)
        assert deviation(theirs.data, posterior.mean) < 1e-9
        assert deviation(problem.whitener @ residual.data, problem.recording - posterior.fitted) < 1e-9

    def test_normal_component_of_free_orientation(self, auditory, forward, noise_cov):
        problem = from_mne(decimated(auditory), forward, noise_cov, orientation="free", picks="eeg")
        posterior = given(problem, 0.5)
        theirs = apply_inverse(
            matching(problem, decimated(auditory)), to_inverse_operator(posterior), method="MNE", pick_ori="normal"
        )
        assert deviation(theirs.data, np.einsum("sat,sa->st", posterior.mean, problem.sources.normals)) < 1e-6

    def test_several_structures(self, auditory, forward, noise_cov, rng):
        problem = from_mne(decimated(auditory), forward, noise_cov, picks="eeg")
        steep = rng.lognormal(0, 1, problem.source_count)
        posterior = given(problem, [0.2, 0.6, 1.1], [0.9, 1.0, 1.3], (None, steep, 1 / steep), [0.2, 0.3, 0.5])
        shown = matching(problem, decimated(auditory))
        theirs, residual = apply_inverse(shown, to_inverse_operator(posterior), method="MNE", return_residual=True)
        assert deviation(theirs.data, posterior.mean) < 1e-9
        assert deviation(problem.whitener @ residual.data, problem.recording - posterior.fitted) < 1e-9

    @pytest.mark.parametrize("method", ["MNE", "dSPM", "sLORETA", "eLORETA"])
    def test_of_given_scales_is_that_of_mne(self, auditory, forward, noise_cov, method):
        evoked = decimated(auditory)
        problem = from_mne(evoked, forward, noise_cov, picks="eeg")
        mine = to_inverse_operator(infer("minimum_norm", problem))
        theirs = classical(problem, evoked, forward, noise_cov)
        for lambda2 in (LAMBDA2, 0.5):
            found, wanted = (
                apply_inverse(matching(problem, evoked), one, lambda2, method).data for one in (mine, theirs)
            )
            assert deviation(found, wanted) < 1e-6

    def test_noise_normalisation_counts_the_learned_noise(self, auditory, forward, noise_cov):
        evoked, noise, scale = decimated(auditory), 1.7, 0.4
        problem = from_mne(evoked, forward, noise_cov, picks="eeg", noise_time="white")
        posterior = given(problem, scale, noise)
        prepared = prepare_inverse_operator(to_inverse_operator(posterior), evoked.nave, LAMBDA2, "sLORETA")
        reduction = posterior.prior_variance - posterior.within_variance
        assert_allclose(prepared["noisenorm"] ** -2, reduction, rtol=1e-7)
        noisier = noise_cov.copy()
        noisier["data"] = noisier["data"] * noise**2
        theirs = classical(problem, evoked, forward, noisier)
        lambda2 = LAMBDA2 * (noise / scale) ** 2
        found = apply_inverse(matching(problem, evoked), to_inverse_operator(posterior), method="dSPM").data
        assert deviation(found, apply_inverse(matching(problem, evoked), theirs, lambda2, "dSPM").data) < 1e-7

    def test_amplitudes_do_not_depend_on_the_averages_of_what_it_is_applied_to(self, auditory, forward, noise_cov):
        problem = from_mne(decimated(auditory), forward, noise_cov, picks="eeg")
        posterior = given(problem, 0.5)
        other = matching(problem, decimated(auditory))
        other.nave = 2 * other.nave
        assert deviation(apply_inverse(other, to_inverse_operator(posterior), method="MNE").data, posterior.mean) < 1e-9

    def test_survives_a_file_of_mne(self, auditory, forward, noise_cov, tmp_path):
        problem = from_mne(decimated(auditory), forward, noise_cov, picks="eeg")
        posterior = given(problem, [0.3, 0.6])
        write_inverse_operator(tmp_path / "learned-inv.fif", to_inverse_operator(posterior))
        loaded = read_inverse_operator(tmp_path / "learned-inv.fif")
        theirs = apply_inverse(matching(problem, decimated(auditory)), loaded, method="MNE")
        assert deviation(theirs.data, posterior.mean) < 1e-4

    def test_takes_the_objects_again_where_the_problem_lacks_them(self, auditory, forward, noise_cov):
        from dataclasses import replace

        evoked = decimated(auditory)
        problem = from_mne(evoked, forward, noise_cov, picks="eeg")
        loaded = given(replace(problem, origin=None), 0.5)
        with pytest.raises(ValueError, match=r"give to_inverse_operator\(info=, forward=, noise_cov=\)"):
            to_inverse_operator(loaded)
        operator = loaded.to_inverse_operator(info=evoked.info, forward=forward, noise_cov=noise_cov)
        assert deviation(apply_inverse(matching(problem, evoked), operator, method="MNE").data, loaded.mean) < 1e-9
        other = noise_cov.copy()
        other["data"] = other["data"] * np.linspace(1, 2, len(other["data"]))[:, None] ** 0.5
        other["data"] = other["data"] * np.linspace(1, 2, len(other["data"])) ** 0.5
        with pytest.raises(ValueError, match="noise covariance is not the one"):
            loaded.to_inverse_operator(info=evoked.info, forward=forward, noise_cov=other)
        with pytest.raises(ValueError, match="forward solution is not the one"):
            loaded.to_inverse_operator(
                info=evoked.info,
                forward=mne.forward.restrict_forward_to_stc(
                    forward, mne.SourceEstimate(np.ones((9, 1)), [np.arange(5), np.arange(4)], 0, 1)
                ),
                noise_cov=noise_cov,
            )


class TestMaps:
    def test_fixed(self, auditory, forward, noise_cov):
        problem = from_mne(decimated(auditory), forward, noise_cov, picks="eeg")
        posterior = given(problem, [0.3, 0.6])
        low, high = posterior.interval(0.8)
        for what, wanted in {"mean": posterior.mean, "sd": posterior.sd, "lower": low, "upper": high}.items():
            estimate = to_mne(posterior, what, level=0.8)
            assert isinstance(estimate, mne.SourceEstimate)
            assert_array_equal(estimate.data, wanted)
            assert_allclose(estimate.times, problem.times, atol=1e-9)
            assert estimate.subject == "sample"
            for vertices, space in zip(estimate.vertices, forward["src"], strict=True):
                assert_array_equal(vertices, space["vertno"])
        assert_array_equal(to_mne(posterior, "exceedance", threshold=1e-9).data, posterior.exceedance(1e-9))
        assert_array_equal(posterior.to_mne("shrinkage").data[:, 0], posterior.shrinkage)
        assert_allclose(to_mne(posterior, "prior_sd").data[:, 0] ** 2, posterior.prior_variance)

    def test_free(self, auditory, forward, noise_cov):
        problem = from_mne(decimated(auditory, 60), forward, noise_cov, orientation="free", picks="eeg", tmax=0.2)
        posterior = given(problem, 0.6)
        for what in ("mean", "sd"):
            estimate = to_mne(posterior, what)
            assert isinstance(estimate, mne.VectorSourceEstimate)
            assert_array_equal(estimate.data, getattr(posterior, what))
        estimate = to_mne(posterior, "shrinkage")
        assert isinstance(estimate, mne.SourceEstimate)
        assert_allclose(estimate.data[:, 0], posterior.shrinkage.mean(axis=1))
        assert_allclose(to_mne(posterior, "prior_sd").data[:, 0] ** 2, posterior.prior_variance.mean(axis=1))

    def test_vertices_are_put_in_order(self, rng):
        vertices, hemispheres = np.array([7, 2, 5, 1]), np.array([1, 0, 0, 1])
        sources = Sources(rng.normal(size=(4, 3)), vertices=vertices, hemispheres=hemispheres)
        problem = Problem.from_arrays(rng.normal(size=(3, 4)), rng.normal(size=(3, 5)), sources=sources)
        posterior = given(problem)
        estimate = to_mne(posterior)
        assert [list(part) for part in estimate.vertices] == [[2, 5], [1, 7]]
        assert_array_equal(estimate.data, posterior.mean[[1, 2, 3, 0]])

    def test_doors(self, rng):
        bare = given(Problem.from_arrays(rng.normal(size=(3, 4)), rng.normal(size=(3, 5))))
        with pytest.raises(ValueError, match="these sources have none"):
            to_mne(bare)
        with pytest.raises(ValueError, match="no map named 'median'"):
            to_mne(bare, "median")
        with pytest.raises(ValueError, match="MNE-Python objects behind this posterior are not known"):
            to_inverse_operator(bare)
        sources = Sources(rng.normal(size=(4, 3)), vertices=np.arange(4), hemispheres=np.zeros(4))
        gain, recording = rng.normal(size=(3, 4)), rng.normal(size=(3, 3))
        known = given(Problem.from_arrays(gain, recording, sources=sources))
        with pytest.raises(ValueError, match="exceedance wants a threshold"):
            to_mne(known, "exceedance")
        uneven = given(Problem.from_arrays(gain, recording, sources=sources, times=[0.0, 0.1, 0.4]))
        with pytest.raises(ValueError, match="evenly spaced"):
            to_mne(uneven)


def peak(problem, strength):
    """Place in MRI mm, and time, of the strongest of (source, time) between 70 and 130 ms."""
    window = problem.window(0.07, 0.13)
    source, sample = np.unravel_index(np.argmax(strength[:, window]), strength[:, window].shape)
    return 1e3 * problem.sources.mri_positions[source], problem.times[window][sample]


class TestRealResponses:
    """What is known of the responses: tones to the right ear, a checkerboard in the right half of the visual field."""

    @pytest.mark.parametrize("condition", DSPM_PEAKS)
    @pytest.mark.parametrize("picks", ["meg", "eeg"])
    def test_peak_in_the_opposite_hemisphere(self, sample, full_forward, noise_cov, condition, picks):
        evoked = decimated(mne.read_evokeds(sample / "sample-right-ave.fif", condition), 12)
        problem = from_mne(evoked, full_forward, noise_cov, picks=picks, tmax=0.3)
        posterior = infer("hierarchical", problem)
        # Eleven samples of baseline are too few to tell the noise's colour, and slow noise is left; so is the response.
        failed = {check.name for check in posterior.checks if not check.passed}
        # Currents without a time constant are too small over time, and the noise then takes what they leave.
        slow = {"noise over time, recording", "currents over time", "currents over depth", "noise in the recording"}
        # What is seen comes from a few places, where neighbours go together.
        assert failed <= slow | {"currents of neighbours"}
        wanted = DSPM_PEAKS[condition][picks]
        # Divided by the root of its variance reduction, the mean peaks at a point source.
        sensitivity = np.sqrt(posterior.prior_variance - posterior.within_variance.mean(axis=1))
        place, _ = peak(problem, np.abs(posterior.mean) / sensitivity[:, None])
        assert place[0] < 0
        assert np.linalg.norm(place - wanted) < 30
        # The mean itself prefers the surface; tones, in the Sylvian fissure, are too deep for it in EEG.
        place, _ = peak(problem, np.abs(posterior.mean))
        assert place[0] < 0
        if (condition, picks) != ("Right Auditory", "eeg"):
            assert np.linalg.norm(place - wanted) < 30

    @pytest.mark.parametrize("condition", DSPM_PEAKS)
    @pytest.mark.parametrize("picks", ["meg", "eeg"])
    def test_the_signal_is_in_the_response_and_not_before(self, sample, full_forward, noise_cov, condition, picks):
        evoked = decimated(mne.read_evokeds(sample / "sample-right-ave.fif", condition), 6)
        snr = {}
        for name, (tmin, tmax) in {"before": (-0.2, 0.0), "after": (0.05, 0.2)}.items():
            problem = from_mne(evoked, full_forward, noise_cov, picks=picks, tmin=tmin, tmax=tmax, baseline=None)
            snr[name] = infer("hierarchical", problem).hyper["snr"].interval(0.9)
        assert snr["after"][0] > 1.3 * snr["before"][1]
        # Before a response the brain is not quite silent, and no baseline says how noise goes over time.
        assert snr["before"][1] < 0.6
