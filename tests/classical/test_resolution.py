"""Resolution matrices and their metrics, against their definition, MNE-Python and the posterior's shrinkage."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesinv import Problem, Sources, infer
from bayesinv.classical.baseline import baseline
from bayesinv.classical.minimum_norm import tikhonov
from bayesinv.classical.resolution import resolution
from bayesinv.classical.surface_axes import surface_axes
from bayesinv.geometry.geodesic import Geodesic

NAMES = ("peak_error", "centre_error", "deviation", "radius", "peak", "total")


def toy(rng, axes=1, components=9, sources=16, samples=6):
    gain = rng.standard_normal((components, sources * axes)) * np.repeat(np.linspace(0.2, 2, sources), axes)
    normals = rng.standard_normal((sources, 3))
    positions = Sources(
        rng.standard_normal((sources, 3)) / 20, normals / np.linalg.norm(normals, axis=1, keepdims=True)
    )
    return Problem(
        gain, rng.standard_normal((components, samples)) * 3, np.arange(samples) / 100, axes=axes, sources=positions
    )


def by_loop(size, positions, threshold=0.5):
    """The metrics of (function, source) magnitudes by their definition."""
    out = {name: np.empty(len(size)) for name in NAMES}
    for i, w in enumerate(size):
        d = np.linalg.norm(positions - positions[i], axis=1)
        out["peak_error"][i] = d[w.argmax()]
        out["centre_error"][i] = np.linalg.norm(w @ positions / w.sum() - positions[i])
        out["deviation"][i] = np.sqrt(np.sum((w * d) ** 2) / np.sum(w**2))
        out["radius"][i] = d[w > threshold * w.max()].max()
        out["peak"][i], out["total"][i] = w.max(), w.sum()
    return out


class TestMatrix:
    @pytest.mark.parametrize("method", ["MNE", "dSPM", "sLORETA", "eLORETA", "LCMV"])
    @pytest.mark.parametrize("axes", [1, 3])
    def test_maps_true_currents_to_their_noiseless_estimate(self, rng, method, axes):
        problem = toy(rng, axes)
        option = {"covariance": np.eye(9)} if method == "LCMV" else {"lam": 0.7}
        estimate = baseline(problem, method, pick="pooled" if axes == 1 else "vector", **option)
        current = rng.standard_normal((16 * axes, 2))
        clean = dataclasses.replace(problem, recording=problem.gain @ current, times=np.arange(2.0))
        again = baseline(clean, method, pick="pooled" if axes == 1 else "vector", **option)
        found = resolution(problem, estimate).matrix() @ current
        assert_allclose(found.reshape(again.current.shape), again.current, rtol=1e-9, atol=1e-11)

    def test_functions_are_its_columns_and_rows(self, rng):
        for axes, estimator in ((1, 0.3), (3, 0.3)):
            problem = toy(rng, axes)
            ours = resolution(problem, estimator)
            matrix = ours.matrix()
            assert matrix.shape == (16 * axes, 16 * axes)
            block = matrix.reshape(16, axes, 16, axes)
            assert_allclose(ours.psf(5), np.squeeze(block[:, :, 5, :]), atol=1e-13)
            assert_allclose(ours.ctf(5), np.squeeze(block[5]), atol=1e-13)
            assert_allclose(ours.psf(-1), ours.psf(15))
            assert_allclose(ours.diagonal.ravel(), np.diag(matrix), atol=1e-13)

    def test_is_symmetric_for_equal_prior_variances(self, rng):
        matrix = resolution(toy(rng, 3), 0.4).matrix()
        assert_allclose(matrix, matrix.T, atol=1e-13)
        ours = resolution(toy(rng), 0.4)
        assert_allclose(ours.psf(3), ours.ctf(3), atol=1e-13)
        deep = resolution(toy(rng), 0.4, weights=0.8).matrix()
        assert np.abs(deep - deep.T).max() > 1e-3

    def test_its_trace_is_the_degrees_of_freedom(self, rng):
        problem = toy(rng, 3)
        assert_allclose(np.sum(resolution(problem, 0.4).diagonal), tikhonov(problem, 0.4).degrees_of_freedom)

    def test_tends_to_a_projector_without_regularisation(self, rng):
        matrix = resolution(toy(rng), 1e-12).matrix()
        assert_allclose(matrix @ matrix, matrix, atol=1e-8)

    def test_is_refused_where_it_is_too_large(self, rng):
        with pytest.raises(ValueError, match=r"takes 2.05e-06 GB \(16 x 16\), more than 1e-06 GB; use psf"):
            resolution(toy(rng), 0.4).matrix(largest=1e-6)

    def test_does_not_depend_on_the_basis_of_the_components(self, rng):
        problem = toy(rng)
        rotation = np.linalg.qr(rng.standard_normal((9, 9)))[0]
        rotated = dataclasses.replace(problem, gain=rotation @ problem.gain, recording=rotation @ problem.recording)
        for method in ("MNE", "sLORETA", "eLORETA"):
            one, other = (resolution(p, baseline(p, method, 0.4)).matrix() for p in (problem, rotated))
            assert_allclose(other, one, rtol=1e-7, atol=1e-9)


class TestPosterior:
    @pytest.mark.parametrize("model", ["minimum_norm", "hierarchical", "depth_weighted"])
    @pytest.mark.parametrize("axes", [1, 3])
    def test_its_diagonal_is_the_shrinkage(self, rng, model, axes):
        problem = toy(rng, axes)
        posterior = infer(model, problem)
        ours = resolution(problem, posterior)
        assert_allclose(ours.diagonal, posterior.shrinkage, rtol=1e-10, atol=1e-12)
        mean = ours.kernel @ problem.recording
        assert_allclose(mean.reshape(posterior.mean.shape), posterior.mean, rtol=1e-8, atol=1e-12)

    def test_at_fixed_scales_it_is_that_of_tikhonov(self, rng):
        problem = toy(rng)
        assert_allclose(
            resolution(problem, infer("minimum_norm", problem)).matrix(),
            resolution(problem, "snr").matrix(),
            atol=1e-11,
        )


class TestMetrics:
    @pytest.mark.parametrize("function", ["psf", "ctf"])
    @pytest.mark.parametrize("axes", [1, 3])
    def test_are_what_their_definition_says(self, rng, monkeypatch, function, axes):
        monkeypatch.setattr("bayesinv.classical.resolution.BLOCK_ELEMENTS", 100)
        problem = toy(rng, axes)
        ours = resolution(problem, baseline(problem, "dSPM", 0.4, depth=0.6, pick="pooled"))
        block = ours.matrix().reshape(16, axes, 16, axes)
        size = np.sqrt(np.sum(block**2, axis=(1, 3)))
        size = size.T if function == "psf" else size
        assert_allclose(ours.magnitudes(function), size, rtol=1e-10)
        assert_allclose(ours.magnitudes(function, [3, -2]), size[[3, 14]], rtol=1e-10)
        found, wanted = ours.metrics(function, threshold=0.3), by_loop(size, problem.sources.positions, 0.3)
        for name in NAMES:
            assert_allclose(getattr(found, name), wanted[name], rtol=1e-8, atol=1e-12)
        assert_allclose(found.relative_peak, wanted["peak"] / wanted["peak"].max(), rtol=1e-10)
        assert_allclose(found.relative_total, wanted["total"] / wanted["total"].max(), rtol=1e-10)

    def test_do_not_depend_on_the_directions_of_the_axes(self, rng):
        problem = toy(rng, 3)
        one, other = (resolution(p, 0.4).metrics() for p in (problem, surface_axes(problem)))
        for name in NAMES:
            assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("method", ["sLORETA", "eLORETA"])
    def test_standardised_estimates_have_no_peak_error(self, rng, method):
        problem = toy(rng)
        assert not resolution(problem, baseline(problem, method, 0.4)).metrics("psf").peak_error.any()

    def test_perfect_resolution_has_no_error(self, rng):
        gain = np.linalg.qr(rng.standard_normal((8, 8)))[0]
        problem = Problem(gain, np.ones((8, 1)), np.zeros(1), sources=Sources(rng.standard_normal((8, 3))))
        found = resolution(problem, 1e-9).metrics()
        for name in ("peak_error", "centre_error", "deviation", "radius"):
            assert_allclose(getattr(found, name), 0, atol=1e-6)
        assert_allclose(found.peak, 1, rtol=1e-6)


def sheets(size=9, spacing=0.01):
    """Two flat square meshes beside each other."""
    x, y = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    points = np.column_stack([x.ravel(), y.ravel(), np.zeros(size**2)]) * spacing
    corner = (np.arange(size - 1)[:, None] * size + np.arange(size - 1)).ravel()
    faces = np.concatenate(
        [
            np.column_stack([corner, corner + size, corner + size + 1]),
            np.column_stack([corner, corner + size + 1, corner + 1]),
        ]
    )
    return np.concatenate([points, points + np.array([0.0, 0.0, 0.02])]), np.concatenate([faces, faces + size**2])


class TestGeodesic:
    def test_wants_a_mesh(self, rng):
        ours = resolution(toy(rng), 0.4)
        with pytest.raises(ValueError, match="geodesic distances want a mesh, but these sources have no triangles"):
            ours.metrics(distance="geodesic")

    def test_wants_a_mesh_through_all_sources(self):
        points, faces = sheets()
        sources = Sources(np.concatenate([points, [[1.0, 1, 1]]]), triangles=faces)
        with pytest.raises(ValueError, match=r"1 of 163 lie on no triangle \(first: 162\)"):
            Geodesic.of(sources)

    def test_says_what_to_install(self, monkeypatch):
        points, faces = sheets()
        for name in ("pygeodesic", "potpourri3d"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ValueError, match="want pygeodesic \\(exact\\) or potpourri3d"):
            Geodesic.of(Sources(points, triangles=faces))

    @pytest.mark.parametrize("library", ["pygeodesic", "potpourri3d"])
    def test_on_a_flat_sheet_it_is_euclidean_and_does_not_jump(self, rng, monkeypatch, library):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
        for other in {"pygeodesic", "potpourri3d"} - {library}:
            monkeypatch.setitem(sys.modules, other, None)
        points, faces = sheets()
        distance = Geodesic.of(Sources(points, triangles=faces))(30)
        wanted = np.linalg.norm(points - points[30], axis=1)
        assert np.isinf(distance[81:]).all()
        assert_allclose(distance[:81], wanted[:81], rtol=1e-9 if library == "pygeodesic" else 0.2, atol=1e-3)
        gain = rng.standard_normal((7, 162))
        problem = Problem(gain, np.ones((7, 1)), np.zeros(1), sources=Sources(points, triangles=faces))
        ours = resolution(problem, baseline(problem, "sLORETA", 1.0))
        found = ours.metrics("psf", distance="geodesic")
        assert not found.peak_error.any()
        size = ours.magnitudes("psf", [30])[0, :81]
        deviation = np.sqrt(np.sum((size * distance[:81]) ** 2) / np.sum(size**2))
        assert_allclose(found.deviation[30], deviation, rtol=1e-10)
        wrong = resolution(problem, baseline(problem, "MNE", 1.0)).metrics("psf", distance="geodesic").peak_error
        assert np.isinf(wrong).any()


class TestDoor:
    def test_says_what_is_wrong(self, rng):
        problem = toy(rng)
        ours = resolution(problem, 0.4)
        for bad in (16, -17):
            with pytest.raises(ValueError, match=f"source {bad} does not exist; there are 16 sources, from 0 to 15"):
                ours.psf(bad)
            with pytest.raises(ValueError, match=f"source {bad} does not exist"):
                ours.ctf(bad)
        with pytest.raises(ValueError, match="named by their integer index"):
            ours.psf(1.5)
        with pytest.raises(ValueError, match=r"no function named 'psfs': did you mean 'psf'\? There are ctf, psf"):
            ours.metrics("psfs")
        with pytest.raises(ValueError, match="no distance named 'path'"):
            ours.metrics(distance="path")
        with pytest.raises(ValueError, match=r"threshold is 1\.5"):
            ours.metrics(threshold=1.5)
        with pytest.raises(ValueError, match="lam is 0"):
            resolution(problem, 0)
        with pytest.raises(ValueError, match="the estimator is of another problem"):
            resolution(problem, tikhonov(toy(rng), 0.4))
        with pytest.raises(ValueError, match="weights are for a minimum norm"):
            resolution(problem, tikhonov(problem, 0.4), weights=0.5)
        with pytest.raises(ValueError, match="no directions named 'normal'"):
            resolution(problem, 0.4, along="normal")
        with pytest.raises(ValueError, match="positions of the sensors are not known"):
            ours.depth  # noqa: B018
        bare = dataclasses.replace(problem, sources=None)
        with pytest.raises(ValueError, match="sources' positions are not known"):
            resolution(bare, 0.4).metrics()
        free = toy(rng, 3)
        with pytest.raises(ValueError, match="a source has 1 rows and 3 columns"):
            resolution(free, baseline(free, pick="normal")).diagonal  # noqa: B018


@pytest.fixture(scope="module")
def scene(sample):
    import mne

    from bayesinv.bridges.mne_in import from_mne

    with mne.use_log_level("error"):
        forward = mne.read_forward_solution(sample / "sample-oct5-fwd.fif")
        covariance = mne.read_cov(sample / "sample-noise-cov.fif")
        evoked = mne.read_evokeds(sample / "sample-right-ave.fif", "Right Auditory").pick("grad", exclude="bads")
        evoked.crop(0.08, 0.1)
        forward = mne.pick_channels_forward(forward, evoked.ch_names, ordered=True)
        problem = from_mne(evoked, forward, covariance, orientation="fixed", baseline=None, outliers="keep")
    return evoked, forward, covariance, problem


@pytest.fixture(scope="module")
def sparse(scene):
    """The same with every third source: what is an identity holds for these, and in a ninth of the time."""
    import mne

    from bayesinv.bridges.mne_in import from_mne

    evoked, forward, covariance, _ = scene
    vertices = [space["vertno"][::3] for space in forward["src"]]
    subset = mne.SourceEstimate(np.zeros((sum(map(len, vertices)), 1)), vertices, 0, 1)
    with mne.use_log_level("error"):
        forward = mne.forward.restrict_forward_to_stc(forward, subset)
        problem = from_mne(evoked, forward, covariance, orientation="fixed", baseline=None, outliers="keep")
    return evoked, forward, covariance, problem


class TestAgainstMne:
    @pytest.mark.parametrize("loose", [0.0, 1.0])
    def test_metrics_are_its(self, sparse, loose):
        import mne
        from mne.minimum_norm import make_inverse_operator, make_inverse_resolution_matrix, resolution_metrics

        from bayesinv.bridges.mne_in import from_mne

        evoked, forward, covariance, problem = sparse
        with mne.use_log_level("error"):
            inverse = make_inverse_operator(evoked.info, forward, covariance, loose=loose, fixed=loose == 0)
            fixed = mne.convert_forward_solution(forward, surf_ori=True, force_fixed=True)
            if loose:
                # The currents that are spread flow along the normals, whatever the estimator allows.
                problem = from_mne(evoked, forward, covariance, orientation="free", baseline=None, outliers="keep")
                kernel = make_inverse_resolution_matrix(forward, inverse, "dSPM", 1 / 9)
                normals = problem.sources.normals
                matrix = np.einsum("rsa,sa->rs", kernel.reshape(len(kernel), -1, 3), normals)
                # MNE-Python joins the three rows of a source for two of its metrics only.
                matrix = np.linalg.norm(matrix.reshape(-1, 3, matrix.shape[1]), axis=1)
            else:
                matrix = make_inverse_resolution_matrix(fixed, inverse, "dSPM", 1 / 9)
        estimate = baseline(problem, "dSPM", 1 / 9, loose=loose, convention="mne")
        ours = resolution(problem, estimate, along="normals")
        for function in ("psf", "ctf"):
            found = ours.metrics(function)
            for theirs, name, unit in (
                ("peak_err", "peak_error", 100),
                ("cog_err", "centre_error", 100),
                ("sd_ext", "deviation", 100),
                ("peak_amp", "relative_peak", 1),
                ("sum_amp", "relative_total", 1),
            ):
                wanted = resolution_metrics(matrix, inverse["src"], function, theirs).data[:, 0]
                assert_allclose(unit * getattr(found, name), wanted, rtol=1e-6, atol=1e-6)
            # MNE-Python 1.13 sums squares over sources instead of axes, so its radius exceeds the head.
            size = ours.magnitudes(function)
            positions, strong = problem.sources.positions, size > 0.5 * size.max(axis=1, keepdims=True)
            radius = (np.linalg.norm(positions[row] - positions[i], axis=1).max() for i, row in enumerate(strong))
            assert_allclose(found.radius, list(radius), rtol=1e-12)
            summed = [
                np.sqrt(np.sum((positions[row] - positions[i]) ** 2, axis=0).max()) for i, row in enumerate(strong)
            ]
            wanted = resolution_metrics(matrix, inverse["src"], function, "maxrad_ext").data[:, 0] / 100
            assert_allclose(wanted, summed if np.max(wanted) > 0.2 else found.radius, rtol=1e-6)

    def test_depth_weighting_relieves_deep_sources(self, scene):
        problem = scene[3]
        plain = resolution(problem, "snr")
        weighted = resolution(problem, "snr", weights=0.8)
        deep = plain.depth > np.quantile(plain.depth, 0.75)
        before, after = plain.metrics(), weighted.metrics()
        # The minimum norm pulls deep currents towards the sensors; depth weighting costs shallow ones a little.
        assert before.peak_error[deep].mean() > 1.5 * before.peak_error[~deep].mean()
        assert after.peak_error[deep].mean() < 0.9 * before.peak_error[deep].mean()

        def share(metrics):
            return metrics.peak[deep].mean() / metrics.peak[~deep].mean()

        assert share(after) > 1.5 * share(before)
