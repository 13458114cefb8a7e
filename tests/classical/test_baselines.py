"""The classical estimates, against MNE-Python on a real recording and against their own theory."""

from __future__ import annotations

import dataclasses
import warnings
from functools import cache
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesinv import Currents, Problem, Sources, infer
from bayesinv.classical.baseline import baseline
from bayesinv.classical.minimum_norm import tikhonov
from bayesinv.classical.mne_prior import depth_prior, prior_from_mne
from bayesinv.classical.surface_axes import SurfaceProblem, surface_axes
from bayesinv.prior.currents import depth_weights

LAMBDA2 = 1 / 9
KINDS = {"meg": "meg", "eeg": "eeg", "both": ["meg", "eeg"]}


def toy(rng, axes=3, components=11, sources=17, samples=4, averages=1):
    gain = rng.standard_normal((components, sources, axes)) * rng.uniform(0.2, 2, (1, sources, 1))
    normals = rng.standard_normal((sources, 3))
    return Problem.from_arrays(
        gain,
        rng.standard_normal((components, samples)),
        np.diag(rng.uniform(0.5, 2, components)),
        positions=rng.standard_normal((sources, 3)) / 20,
        normals=normals / np.linalg.norm(normals, axis=1, keepdims=True),
        averages=averages,
    )


def single(problem, source, direction=None):
    """The noiseless recording of one unit current."""
    column = problem.gain[:, source * problem.axes : (source + 1) * problem.axes]
    field = column @ (np.ones(1) if direction is None else direction)
    return dataclasses.replace(problem, recording=field[:, None] / np.linalg.norm(field), times=np.zeros(1))


class TestTheory:
    def test_mne_is_the_minimum_norm(self, rng):
        problem = toy(rng)
        ours = baseline(problem, "MNE", 0.8, pick="vector")
        assert_allclose(ours.current, tikhonov(problem, 0.8).current, rtol=1e-10)
        deep = baseline(problem, "MNE", 0.8, depth=0.7, pick="vector")
        assert_allclose(deep.current, tikhonov(problem, 0.8, 0.7).current, rtol=1e-10)

    def test_pooled_normal_and_vector_are_one_current(self, rng):
        problem = toy(rng)
        for method in ("MNE", "dSPM", "sLORETA", "eLORETA"):
            vector = baseline(problem, method, 0.8, loose=0.3, pick="vector").current
            assert_allclose(
                np.linalg.norm(vector, axis=1), baseline(problem, method, 0.8, loose=0.3).current, rtol=1e-9
            )
            along = np.einsum("sat,sa->st", vector, problem.sources.normals)
            normal = baseline(problem, method, 0.8, loose=0.3, pick="normal")
            assert_allclose(normal.current, along, rtol=1e-8, atol=1e-12)
            assert_allclose(normal.operator.kernel() @ problem.recording, normal.current, rtol=1e-9, atol=1e-13)

    @pytest.mark.parametrize("method", ["MNE", "dSPM", "sLORETA", "eLORETA"])
    def test_loose_tends_to_fixed_and_to_free(self, rng, method):
        problem = toy(rng)
        fixed = baseline(problem, method, loose=0).current
        assert_allclose(np.abs(fixed), baseline(problem, method, loose=1e-14).current, rtol=1e-4, atol=1e-6)
        free = baseline(problem, method, loose=1).current
        assert_allclose(baseline(problem, method, loose=1 - 1e-9).current, free, rtol=1e-6)

    @pytest.mark.parametrize("method", ["MNE", "dSPM", "sLORETA", "eLORETA"])
    def test_zero_looseness_is_the_problem_along_normals(self, rng, method):
        problem = toy(rng)
        gain = np.einsum("csa,sa->cs", problem.gain.reshape(11, -1, 3), problem.sources.normals)
        fixed = Problem(gain, problem.recording, problem.times, sources=problem.sources)
        loose = baseline(problem, method, loose=0)
        assert_allclose(loose.current, baseline(fixed, method).current, rtol=1e-8, atol=1e-12)

    def test_dspm_divides_by_the_noise_of_the_estimate(self, rng):
        problem = toy(rng, axes=1)
        plain, ours = baseline(problem, "MNE", 0.5), baseline(problem, "dSPM", 0.5)
        draws = plain.operator(rng.standard_normal((11, 40_000)))
        assert_allclose(plain.current / ours.current, draws.std(axis=1)[:, None] * np.ones(4), rtol=0.03)
        assert_allclose(np.linalg.norm(ours.operator.kernel(), axis=1), 1, rtol=1e-12)

    def test_sloreta_divides_by_prior_minus_posterior_variance(self, rng):
        problem = toy(rng, axes=1)
        posterior = infer("minimum_norm", problem)
        lam = posterior.hyper["lambda"].mean
        fall = (posterior.prior_variance - posterior.within_variance)[:, None]
        ours = baseline(problem, "sLORETA", lam).current
        assert_allclose(ours, posterior.mean / np.sqrt(fall), rtol=1e-9)
        mne = baseline(problem, "sLORETA", LAMBDA2, convention="mne", depth=None).current
        assert_allclose(mne, ours, rtol=1e-9)

    @pytest.mark.parametrize("method", ["sLORETA", "eLORETA"])
    @pytest.mark.parametrize(("axes", "loose"), [(1, None), (3, 1.0), (3, 0.2)])
    def test_a_single_source_without_noise_is_found_exactly(self, rng, method, axes, loose):
        if method == "eLORETA" and loose == 0.2:
            pytest.skip("its fixed point is that of the prior's own coordinates, in which lengths are others")
        problem = toy(rng, axes=axes)
        for source in range(problem.source_count):
            direction = None if axes == 1 else rng.standard_normal(3)
            estimate = baseline(single(problem, source, direction), method, 0.05, loose=loose)
            assert estimate.strength[:, 0].argmax() == source

    def test_minimum_norm_does_not_find_them_all(self, rng):
        problem = toy(rng, axes=1)
        found = [baseline(single(problem, s), "MNE", 50.0).strength[:, 0].argmax() for s in range(17)]
        assert found != list(range(17))

    def test_eloreta_is_at_its_fixed_point(self, rng):
        problem = toy(rng)
        estimate = baseline(problem, "eLORETA", 0.4, pick="vector")
        weights = estimate.operator.weights
        table = problem.gain.reshape(11, -1, 3).transpose(1, 0, 2)
        inner = np.einsum("sca,cd,sdb->sab", table, estimate.operator.inverse, table)
        values, vectors = np.linalg.eigh(inner)
        wanted = np.einsum("sab,sb,scb->sac", vectors, values**-0.5, vectors)
        assert_allclose(weights / weights[0, 0, 0], wanted / wanted[0, 0, 0], rtol=1e-6, atol=1e-8)
        gram = np.einsum("sca,sab,sdb->cd", table, weights, table)
        assert_allclose(np.trace(gram), np.sum(problem.gain**2), rtol=1e-10)

    def test_eloreta_says_when_it_has_not_converged(self, rng, monkeypatch):
        monkeypatch.setattr("bayesinv.classical.eloreta.ITERATIONS", 2)
        with pytest.warns(UserWarning, match=r"weights still changed by .* after 2 passes \(wanted 1e-10\)"):
            baseline(toy(rng), "eLORETA")

    @pytest.mark.parametrize("method", ["MNE", "dSPM", "sLORETA", "eLORETA", "LCMV"])
    @pytest.mark.parametrize("axes", [1, 3])
    def test_nothing_depends_on_the_order_or_basis_of_the_components(self, rng, method, axes):
        problem = toy(rng, axes=axes, samples=25)
        rotation = np.linalg.qr(rng.standard_normal((11, 11)))[0]
        rotated = Problem(
            rotation @ problem.gain, rotation @ problem.recording, problem.times, axes=axes, sources=problem.sources
        )
        option = {"covariance": "recording"} if method == "LCMV" else {"lam": "gcv"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one, other = baseline(problem, method, **option), baseline(rotated, method, **option)
        assert_allclose(other.current, one.current, rtol=1e-5, atol=1e-7 * np.abs(one.current).max())

    @pytest.mark.parametrize("method", ["MNE", "dSPM", "sLORETA", "eLORETA", "LCMV"])
    def test_is_linear_in_the_recording(self, rng, method):
        problem = toy(rng, samples=25)
        option = {"covariance": np.eye(11) + 0.1} if method == "LCMV" else {}
        once = baseline(problem, method, pick="vector", **option).current
        twice = baseline(
            dataclasses.replace(problem, recording=2 * problem.recording), method, pick="vector", **option
        ).current
        assert_allclose(twice, 2 * once, rtol=1e-9)


class TestBeamformer:
    def test_has_unit_gain_and_least_power(self, rng):
        problem = toy(rng, axes=1, samples=40)
        estimate = baseline(problem, "LCMV", covariance="recording", normalise=None, regularise=0)
        kernel = estimate.operator.kernel()
        assert_allclose(np.einsum("sc,cs->s", kernel, problem.gain), 1, rtol=1e-10)
        covariance = problem.recording @ problem.recording.T / 40
        least = np.einsum("sc,cd,sd->s", kernel, covariance, kernel)
        for _ in range(20):
            other = kernel + 0.01 * rng.standard_normal(kernel.shape)
            other /= np.einsum("sc,cs->s", other, problem.gain)[:, None]
            assert (np.einsum("sc,cd,sd->s", other, covariance, other) >= least * (1 - 1e-10)).all()

    def test_weight_normalised_filters_pass_unit_noise(self, rng):
        problem = toy(rng, samples=40)
        for norm in ("unit-noise-gain", "unit-noise-gain-invariant"):
            kernel = baseline(problem, "LCMV", covariance="recording", normalise=norm, pick="normal").operator.kernel()
            assert_allclose(np.linalg.norm(kernel, axis=1), 1, rtol=1e-9)

    def test_max_power_is_the_direction_of_largest_power(self, rng):
        problem = toy(rng, samples=40)
        option = {"covariance": "recording", "normalise": "unit-noise-gain"}
        best = baseline(problem, "LCMV", pick="max-power", **option).operator.kernel()
        covariance = problem.recording @ problem.recording.T / 40
        power = np.einsum("sc,cd,sd->s", best, covariance, best)
        normal = baseline(problem, "LCMV", pick="normal", **option).operator.kernel()
        assert (power >= np.einsum("sc,cd,sd->s", normal, covariance, normal) * (1 - 1e-9)).mean() > 0.9

    def test_regularisation_adds_a_share_of_the_mean_eigenvalue(self, rng):
        problem = toy(rng, samples=40)
        plain = Problem(problem.gain, problem.recording, problem.times, axes=3, sources=problem.sources)
        table = problem.recording @ problem.recording.T / 40
        loaded = table + 0.3 * np.trace(table) / 11 * np.eye(11)
        for norm in (None, "unit-noise-gain"):
            one = baseline(plain, "LCMV", covariance=table, regularise=0.3, normalise=norm)
            other = baseline(plain, "LCMV", covariance=loaded, regularise=0, normalise=norm)
            assert_allclose(one.current, other.current, rtol=1e-9)

    def test_wants_a_covariance(self, rng):
        with pytest.raises(ValueError, match=r"LCMV wants the covariance .*covariance='recording'"):
            baseline(toy(rng), "LCMV")

    def test_the_error_of_a_singular_covariance_names_regularisation(self, rng):
        problem = toy(rng, samples=4)
        with pytest.raises(ValueError, match=r"its rank is 4 of 11 components.*regularise=0.05 would add 5 %"):
            baseline(problem, "LCMV", covariance="recording", regularise=0)
        assert np.isfinite(baseline(problem, "LCMV", covariance="recording").current).all()

    @pytest.mark.parametrize(
        ("covariance", "message"),
        [
            (np.eye(10), r"covariance has sensor = 10, but the problem has 11 sensors or 11 components"),
            (np.ones((11, 4)), r"covariance has shape \(11, 4\), but must be square"),
            (-np.eye(11), "not positive semidefinite"),
            ("data", "no covariance named 'data'; there are recording"),
        ],
    )
    def test_the_covariance_must_be_one(self, rng, covariance, message):
        with pytest.raises(ValueError, match=message):
            baseline(toy(rng), "LCMV", covariance=covariance)

    def test_fits_nothing(self, rng):
        estimate = baseline(toy(rng, samples=30), "LCMV", covariance="recording")
        assert np.isnan(estimate.goodness_of_fit)
        with pytest.raises(ValueError, match="LCMV filters the recording"):
            estimate.residual  # noqa: B018
        with pytest.raises(ValueError, match="LCMV has no lam"):
            estimate.curve  # noqa: B018


class TestDoor:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"method": "dspm"},
                r"no baseline named 'dspm': did you mean 'dSPM'\? There are LCMV, MNE, champagne, dSPM, eLORETA",
            ),
            ({"convention": "brainstorm"}, "no convention named 'brainstorm'; there are mne"),
            ({"pick": "norm"}, "no pick named 'norm'"),
            ({"lam": -1.0}, "lam is -1.0, but must be positive and finite"),
            ({"lam": np.nan, "convention": "mne"}, "lam is nan"),
            ({"lam": "curve"}, "no choice of lam named 'curve'"),
            ({"loose": 1.2}, "loose is 1.2, but must lie between 0"),
            ({"depth": 3.0}, "depth exponent is 3.0"),
            ({"pick": "max-power"}, "pick 'max-power' wants LCMV"),
            ({"covariance": np.eye(3)}, "covariance is for LCMV"),
            ({"convention": "mne"}, "wants the gain in SI units"),
            ({"loose": 0, "pick": "vector"}, "pick 'vector' wants free orientation"),
            ({"method": "LCMV", "depth": 0.8}, "LCMV has no depth weighting"),
            ({"method": "LCMV", "regularise": -1}, "regularise is -1"),
            ({"method": "LCMV", "normalise": "unit"}, "no normalisation named 'unit'"),
        ],
    )
    def test_says_what_is_wrong(self, rng, given, message):
        with pytest.raises(ValueError, match=message):
            baseline(toy(rng), **given)

    def test_loose_wants_free_orientation_and_normals(self, rng):
        with pytest.raises(ValueError, match=r"loose = 0.2 wants free orientation"):
            baseline(toy(rng, axes=1), loose=0.2)
        bare = toy(rng)
        bare = dataclasses.replace(bare, sources=Sources(bare.sources.positions))
        with pytest.raises(ValueError, match=r"loose = 0.2 wants the sources' normals"):
            baseline(bare, loose=0.2)
        with pytest.raises(ValueError, match="surface axes want the sources' normals"):
            surface_axes(bare)

    def test_more_rank_than_the_covariance_has_is_refused(self, rng):
        table = rng.standard_normal((11, 7))
        with pytest.raises(ValueError, match=r"rank 9 was given .* their noise covariance has rank 7"):
            Problem.from_arrays(rng.standard_normal((11, 5)), rng.standard_normal((11, 2)), table @ table.T, rank=9)


class TestSurfaceAxes:
    def test_is_a_rotation_whose_third_axis_is_the_normal(self, rng):
        problem = toy(rng)
        rotated = surface_axes(problem)
        assert isinstance(rotated, SurfaceProblem)
        assert surface_axes(rotated) is rotated
        assert_allclose(rotated.gain @ rotated.gain.T, problem.gain @ problem.gain.T, rtol=1e-12, atol=1e-14)
        assert_allclose(rotated.directions[:, 2], problem.sources.normals, rtol=1e-12)
        assert_allclose(np.linalg.det(rotated.directions), 1, rtol=1e-12)
        current = rng.standard_normal((17, 3, 2))
        field = rotated.gain @ current.reshape(-1, 2)
        assert_allclose(problem.gain @ rotated.cartesian(current).reshape(-1, 2), field, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("method", ["MNE", "dSPM", "sLORETA", "eLORETA"])
    def test_estimates_are_the_same_in_them(self, rng, method):
        problem = toy(rng)
        rotated = surface_axes(problem)
        ours = baseline(rotated, method, loose=0.2, pick="vector").current
        assert_allclose(rotated.cartesian(ours), baseline(problem, method, loose=0.2, pick="vector").current, rtol=1e-7)
        normal = baseline(rotated, method, loose=0.2, pick="normal").current
        assert_allclose(normal, ours[:, 2], rtol=1e-9)

    def test_wants_free_orientation(self, rng):
        with pytest.raises(ValueError, match="surface axes want free orientation"):
            surface_axes(toy(rng, axes=1))


class TestPriorFromMne:
    def test_keeps_the_signal_power(self, rng):
        problem = toy(rng)
        weights = prior_from_mne(surface_axes(problem), depth=None, loose=0.2)
        assert_allclose(np.sum(surface_axes(problem).gain ** 2 * weights), np.sum(problem.gain**2), rtol=1e-12)
        assert_allclose(weights.reshape(-1, 3)[:, 0] / weights.reshape(-1, 3)[:, 2], 0.2, rtol=1e-12)

    def test_says_which_axes_it_wants(self, rng):
        with pytest.raises(ValueError, match=r"loose = 0.2 is diagonal in surface axes only"):
            prior_from_mne(toy(rng), None, 0.2)
        with pytest.raises(ValueError, match="loose = 0 leaves the normal only"):
            prior_from_mne(toy(rng), None, 0)
        with pytest.raises(ValueError, match=r"loose = 0.2 wants free orientation"):
            prior_from_mne(toy(rng, axes=1), None, 0.2)
        with pytest.raises(ValueError, match="this problem has no lead field"):
            prior_from_mne(toy(rng))

    def test_is_not_the_whitened_depth_weighting(self, rng):
        problem = toy(rng)
        assert_allclose(prior_from_mne(problem, None, 1.0), depth_weights(problem, 0.0), rtol=1e-12)


@pytest.fixture(scope="module")
def real(sample):
    """The real recording by every second sensor, and every sixteenth source of its forward solution in float64."""
    import mne

    forward = mne.read_forward_solution(sample / "sample-oct5-fwd.fif", verbose="error")
    picked = [space["vertno"][::16] for space in forward["src"]]
    subset = mne.SourceEstimate(np.zeros((sum(map(len, picked)), 1)), picked, 0, 1)
    forward = mne.forward.restrict_forward_to_stc(forward, subset)
    forward["sol"]["data"] = forward["sol"]["data"].astype(np.float64)
    forward["_orig_sol"] = forward["_orig_sol"].astype(np.float64)
    covariance = mne.read_cov(sample / "sample-noise-cov.fif", verbose="error")
    evoked = mne.read_evokeds(sample / "sample-right-ave.fif", "Right visual", verbose="error")
    evoked.pick(evoked.ch_names[::2])
    return evoked, forward, covariance


def taken(real, kind):
    evoked, forward, covariance = real
    import mne

    with mne.use_log_level("error"):
        evoked = evoked.copy().pick(KINDS[kind], exclude="bads").crop(0.05, 0.15).decimate(12)
    return evoked, forward, covariance


def whitened_by_mne(problem, evoked, covariance):
    """The problem with MNE-Python's own whitener."""
    import mne
    from mne.cov import compute_whitener, prepare_noise_cov

    with mne.use_log_level("error"):
        names = list(problem.sensors.names)
        ready = prepare_noise_cov(covariance, evoked.info, names)
        whitener, _ = compute_whitener(ready, evoked.info, names, pca=True)
        project = mne.proj.make_projector([*evoked.info["projs"], *covariance["projs"]], names)[0]
    whitener = whitener * np.sqrt(evoked.nave)
    # MNE-Python projects the recording explicitly, and the gain only through the whitener.
    gain = whitener @ problem.lead_field.gain.reshape(len(names), -1)
    return dataclasses.replace(
        problem,
        gain=gain,
        recording=whitener @ project @ evoked.get_data(picks=names),
        whitener=whitener @ project,
    )


@pytest.fixture(scope="module")
def pairs(real):
    """Problems of a kind of sensors and an orientation, with our whitener and with MNE-Python's, made once."""
    from bayesinv.bridges.mne_in import from_mne

    @cache
    def pair(kind, orientation):
        evoked, forward, covariance = taken(real, kind)
        ours = from_mne(evoked, forward, covariance, orientation=orientation, baseline=None, outliers="keep")
        return ours, whitened_by_mne(ours, evoked, covariance)

    return pair


def error(ours, theirs):
    assert ours.shape == theirs.shape
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


class TestAgainstMne:
    @pytest.mark.parametrize(
        ("kind", "loose", "depth"),
        [
            # Coils alone, and both kinds of sensors without weights, hold what the others do.
            pytest.param(*case, marks=[pytest.mark.slow] * (case[0] == "meg" or (case[0] == "both" and not case[2])))
            for case in product(KINDS, [0.0, 0.2, 1.0], [None, 0.8])
        ],
    )
    def test_every_estimate_is_its(self, real, pairs, kind, loose, depth):
        import mne
        from mne.minimum_norm import apply_inverse, make_inverse_operator, prepare_inverse_operator

        evoked, forward, covariance = taken(real, kind)
        ours, exact = pairs(kind, "fixed" if loose == 0 else "free")
        with mne.use_log_level("error"):
            inverse = make_inverse_operator(
                evoked.info, forward, covariance, loose=loose, depth=depth, fixed=loose == 0
            )
            for method in ("MNE", "dSPM", "sLORETA", "eLORETA"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    ready = prepare_inverse_operator(inverse, evoked.nave, LAMBDA2, method)
                for pick, name in ((None, "pooled"), ("normal", "normal"), ("vector", "vector")):
                    if loose == 0 and pick:
                        continue
                    theirs = apply_inverse(evoked, ready, LAMBDA2, method, pick_ori=pick, prepared=True).data
                    option = {"depth": depth, "loose": loose, "convention": "mne", "pick": name}
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        assert error(baseline(ours, method, LAMBDA2, **option).current, theirs) < 1e-7
                        assert error(baseline(exact, method, LAMBDA2, **option).current, theirs) < 1e-11

    @pytest.mark.parametrize("pick", [None, "normal", "vector", "max-power"])
    @pytest.mark.parametrize("norm", [None, "unit-noise-gain", "unit-noise-gain-invariant", "nai"])
    def test_the_beamformer_is_its(self, real, pairs, pick, norm):
        import mne
        from mne.beamformer import apply_lcmv, make_lcmv

        ours, _ = pairs("both", "free")
        evoked, forward, noise = taken(real, "both")
        with mne.use_log_level("error"):
            wide = real[0].copy().pick(KINDS["both"], exclude="bads")
            names = list(ours.sensors.names)
            order = [noise.ch_names.index(name) for name in names]
            field = wide.get_data(picks=names)
            table = noise.data[np.ix_(order, order)] + field @ field.T / field.shape[1]
            covariance = mne.Covariance(table, names, [], noise["projs"], 1000)
            # Without the rotation "unit-noise-gain" would depend on MNE-Python's own tangents.
            rotated = mne.convert_forward_solution(forward, surf_ori=pick in ("normal", "max-power"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                filters = make_lcmv(
                    evoked.info, rotated, covariance, 0.05, noise, pick_ori=pick, weight_norm=norm, rank=None
                )
                theirs = apply_lcmv(evoked, filters).data
        estimate = baseline(ours, "LCMV", covariance=table, pick=pick or "pooled", normalise=norm, convention="mne")
        assert error(estimate.current, theirs) < 1e-7

    def test_the_fixed_beamformer_is_its(self, real):
        import mne
        from mne.beamformer import apply_lcmv, make_lcmv

        from bayesinv.bridges.mne_in import from_mne

        evoked, forward, noise = taken(real, "meg")
        with mne.use_log_level("error"):
            ours = from_mne(evoked, forward, noise, orientation="fixed", baseline=None)
            names = list(ours.sensors.names)
            order = [noise.ch_names.index(name) for name in names]
            field = evoked.get_data(picks=names)
            table = noise.data[np.ix_(order, order)] + field @ field.T
            covariance = mne.Covariance(table, names, [], noise["projs"], 1000)
            fixed = mne.convert_forward_solution(forward, surf_ori=True, force_fixed=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = apply_lcmv(evoked, make_lcmv(evoked.info, fixed, covariance, 0.05, noise, rank=None)).data
        assert error(baseline(ours, "LCMV", covariance=table, convention="mne").current, theirs) < 1e-7

    @pytest.mark.parametrize("loose", [0.0, 0.2, 1.0])
    def test_infer_runs_its_prior_with_its_own_lambda(self, real, loose):
        from bayesinv.bridges.mne_in import from_mne

        evoked, forward, covariance = taken(real, "eeg")
        problem = from_mne(evoked, forward, covariance, orientation="fixed" if loose == 0 else "free", baseline=None)
        problem = surface_axes(problem) if loose == 0.2 else problem
        weights = prior_from_mne(problem, 0.8, loose)
        import pymc as pm

        with pm.Model(coords=problem.coords) as model:
            Currents(variance=9 / problem.signal_power, weights=weights).observe("recording", problem, noise=1.0)
        posterior = infer(model, problem)
        pick = "pooled" if loose == 0 else "vector"
        ours = baseline(problem, "MNE", LAMBDA2, depth=0.8, loose=loose, convention="mne", pick=pick)
        assert_allclose(posterior.mean, ours.current, rtol=1e-7, atol=1e-9 * np.abs(ours.current).max())

    def test_depth_weighting_is_its(self, real):
        import mne

        from bayesinv.bridges.mne_in import from_mne

        for kind, limit in (("both", 10.0), ("eeg", 2.0), ("eeg", None)):
            evoked, forward, covariance = taken(real, kind)
            problem = from_mne(evoked, forward, covariance, orientation="free", baseline=None)
            names = list(problem.sensors.names)
            with mne.use_log_level("error"):
                info = mne.pick_info(evoked.info, [evoked.ch_names.index(name) for name in names])
                picked = mne.pick_channels_forward(forward, names, ordered=True)
                theirs = mne.forward.compute_depth_prior(picked, info, 0.8, limit=limit, limit_depth_chs=True)
            assert_allclose(depth_prior(problem, 0.8, limit), theirs[::3], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_sources_agree_with_mne(sample, kind):
    import mne
    from mne.minimum_norm import apply_inverse, make_inverse_operator

    from bayesinv.bridges.mne_in import from_mne

    with mne.use_log_level("error"):
        forward = mne.read_forward_solution(sample / "sample-oct5-fwd.fif")
        covariance = mne.read_cov(sample / "sample-noise-cov.fif")
        evoked = mne.read_evokeds(sample / "sample-right-ave.fif", "Right Auditory")
        evoked = evoked.pick(KINDS[kind], exclude="bads").crop(0.05, 0.15).decimate(12)
        for loose in (0.0, 0.2, 1.0):
            orientation = "fixed" if loose == 0 else "free"
            problem = from_mne(evoked, forward, covariance, orientation=orientation, baseline=None, outliers="keep")
            inverse = make_inverse_operator(evoked.info, forward, covariance, loose=loose, fixed=loose == 0)
            for method in ("MNE", "dSPM", "sLORETA"):
                theirs = apply_inverse(evoked, inverse, LAMBDA2, method).data
                ours = baseline(problem, method, LAMBDA2, loose=loose, convention="mne")
                assert error(ours.current, theirs) < 1e-7
