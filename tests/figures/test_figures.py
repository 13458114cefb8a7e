"""Laws of maps and figures: what is drawn is what the posterior says."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from scipy.spatial import ConvexHull
from scipy.stats import norm
from test_focal import sets

import bayesinv as bi
from bayesinv import figures
from bayesinv.covariance.covariance import Structure
from bayesinv.figures.cortex import layers_of
from bayesinv.figures.surface import OVERSAMPLING, PIXELS_PER_METRE, Surface
from bayesinv.posterior import maps, regions
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior

LEFT, RIGHT = 61, 53
TIMES = np.linspace(-0.01, 0.05, 17)
KINDS = ("eeg",) * 5 + ("mag",) * 6 + ("grad",) * 8


def ball(count: int, centre: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, normals and outward triangles of a sphere of 4 cm."""
    k = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * k / count), np.pi * (1 + 5**0.5) * k
    unit = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)
    triangles = ConvexHull(unit).simplices.astype(np.int64)
    corners = unit[triangles]
    inward = np.einsum(
        "ti,ti->t", np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), corners[:, 0]
    )
    triangles[inward < 0] = triangles[inward < 0][:, ::-1]
    return 0.04 * unit + [centre, 0.0, 0.04], unit, triangles


def cortex() -> bi.Sources:
    left, left_normals, left_triangles = ball(LEFT, -0.045)
    right, right_normals, right_triangles = ball(RIGHT, 0.045)
    to_mri = np.eye(4)
    to_mri[:3, 3] = [0.001, 0.002, 0.003]
    return bi.Sources(
        np.vstack([left, right]),
        np.vstack([left_normals, right_normals]),
        np.vstack([left_triangles, right_triangles + LEFT]),
        hemispheres=np.repeat([0, 1], [LEFT, RIGHT]),
        to_mri=to_mri,
    )


def made(axes: int = 1, rng: np.random.Generator | None = None) -> bi.Problem:
    rng = np.random.default_rng(3) if rng is None else rng
    sources = cortex()
    count = LEFT + RIGHT
    positions = rng.standard_normal((len(KINDS), 3))
    positions = 0.12 * positions / np.linalg.norm(positions, axis=1, keepdims=True)
    unit = np.array([{"eeg": 1e-6, "mag": 1e-14, "grad": 1e-13}[kind] for kind in KINDS])
    away = positions[:, None] - sources.positions
    gain = away / np.linalg.norm(away, axis=2, keepdims=True) ** 3
    gain = gain / gain.std() * 1e9 * unit[:, None, None]
    if axes == 1:
        gain = np.einsum("msa,sa->ms", gain, sources.normals)
    truth = np.zeros((count * axes, len(TIMES)))
    truth[7 * axes] = 4e-9 * np.exp(-0.5 * ((TIMES - 0.02) / 0.005) ** 2)
    noise = unit[:, None] * rng.standard_normal((len(KINDS), len(TIMES)))
    return bi.Problem.from_arrays(
        gain,
        gain.reshape(len(KINDS), -1) @ truth + noise,
        unit**2,
        times=TIMES,
        sources=sources,
        sensors=bi.Sensors(tuple(f"s{i}" for i in range(len(KINDS))), KINDS, positions),
    )


def believed(problem: bi.Problem, deep: bool = False) -> Posterior:
    """A posterior over a few hyperparameters, made by hand so that no model needs to be built."""
    rng = np.random.default_rng(4)
    weights = np.array([0.2, 0.5, 0.3])
    variance, noise = np.array([0.5e-18, 1e-18, 2e-18]), np.array([0.9, 1.0, 1.2])
    structures: tuple = (None,)
    which = np.zeros(3, dtype=np.int64)
    if deep:
        structures, which = (None, np.linspace(0.5, 2, problem.gain.shape[1])), np.array([0, 1, 1])
    nodes = {
        "scale": np.sqrt(variance),
        "noise": noise,
        "lambda": noise**2 / variance,
        "snr": np.sqrt(variance * problem.signal_power) / noise,
    }
    picks = rng.choice(3, 400, p=weights)
    draws = {name: values[picks] * np.exp(0.05 * rng.standard_normal(400)) for name, values in nodes.items()}
    return Posterior(
        problem, "hierarchical", "by hand", Mixture(weights, variance, noise, which, structures),
        Hyper(nodes, weights, draws), Evidence(-1234.5, 1e-3),
        (Check("edge", 1e-9, "< 1e-6", True, "mass"),), {"draws": 0.1},
    )  # fmt: skip


@pytest.fixture(scope="module", params=[(1, False), (1, True), (3, False)], ids=["fixed", "structures", "free"])
def posterior(request) -> Posterior:
    axes, deep = request.param
    return believed(made(axes), deep)


@pytest.fixture(scope="module")
def fixed() -> Posterior:
    return believed(made())


def bare(posterior: Posterior, **changes) -> Posterior:
    return replace(posterior, problem=replace(posterior.problem, **changes))


class TestMaps:
    def test_single_sources_at_one_time_are_the_posterior_itself(self, posterior):
        found = maps.posterior_maps(posterior, 0.02, draws=300)
        k = int(np.argmin(np.abs(TIMES - 0.02)))
        assert_allclose(found.mean, posterior.mean[..., k], rtol=1e-9, atol=1e-9 * np.abs(found.mean).max())
        assert_allclose(found.sd, posterior.sd[..., k], rtol=1e-6)
        assert_allclose(found.prior_sd**2, posterior.prior_variance, rtol=1e-10)
        assert found.window == (TIMES[k], TIMES[k])
        if posterior.problem.axes == 1:
            assert_allclose(found.exceedance, posterior.exceedance(found.threshold, 0.02)[:, 0], rtol=1e-9)

    def test_peak_is_that_of_the_posterior(self, fixed):
        found = maps.posterior_maps(fixed, 0.02, draws=200)
        assert_allclose(found.peak, fixed.peak(0.02, 200).probability)
        assert_allclose(found.near, [fixed.peak(0.02, 200).within(maps.NEIGHBOURHOOD, s) for s in range(LEFT + RIGHT)])

    def test_mean_over_a_window_has_the_moments_of_contrasts(self, posterior):
        window = (0.01, 0.03)
        found = maps.posterior_maps(posterior, window, draws=20)
        weights = np.zeros((3, *found.mean.shape))
        for row, source in enumerate((0, 7, 70)):
            weights[row, source, ...] = 1
        exact = posterior.contrast(weights, window)
        total = found.mean if posterior.problem.axes == 1 else found.mean.sum(axis=1)
        assert_allclose(total[[0, 7, 70]], exact.mean[:, 0], rtol=1e-9)
        if posterior.problem.axes == 1:
            assert_allclose(found.sd[[0, 7, 70]], exact.sd[:, 0], rtol=1e-9)

    def test_patches_have_the_moments_of_contrasts(self, posterior):
        problem = posterior.problem
        table = regions.patches(problem, 0.02).toarray()
        found = maps.posterior_maps(posterior, 0.02, radius=0.02, draws=20)
        for source in (3, 80):
            weights = (
                table[source] if problem.axes == 1 else np.stack([0 * table[source]] * 2 + [table[source]], axis=1)
            )
            exact = posterior.contrast(weights, 0.02)
            last = (source,) if problem.axes == 1 else (source, 2)
            assert_allclose([found.mean[last], found.sd[last]], [exact.mean[0, 0], exact.sd[0, 0]], rtol=1e-9)
            if problem.axes == 1:
                assert_allclose(found.exceedance[source], exact.exceedance(found.threshold)[0, 0]
                                + 1 - exact.exceedance(-found.threshold)[0, 0], rtol=1e-9)  # fmt: skip

    def test_patches_average_one_hemisphere_and_do_not_cancel(self):
        sources = cortex()
        flips = np.where(np.arange(LEFT + RIGHT) % 3 == 0, -1.0, 1.0)[:, None]
        sources = replace(sources, normals=flips * sources.normals)
        problem = replace(made(), sources=sources)
        table = regions.patches(problem, 0.03).toarray()
        assert_allclose(np.abs(table).sum(axis=1), 1)
        assert not table[:LEFT, LEFT:].any()
        assert (np.diag(table) > 0).all()
        normals = problem.sources.normals
        assert ((table @ normals * normals).sum(axis=1) > 0).all()
        assert ((table * (normals @ normals.T)) >= 0).all()

    def test_a_recording_that_says_nothing_leaves_the_prior(self):
        problem = made()
        uninformed = believed(replace(problem, gain=1e-6 * problem.gain))
        found = maps.posterior_maps(uninformed, 0.02, draws=50)
        assert found.shrinkage.max() < 1e-6
        assert_allclose(found.exceedance, found.prior_exceedance, rtol=1e-4)

    def test_exceedance_of_the_prior_is_the_norms_tail(self, posterior):
        axes = posterior.problem.axes
        found = maps.posterior_maps(posterior, 0.02, threshold=1e-9, draws=20)
        rng = np.random.default_rng(0)
        mixture = posterior.mixture
        picks = rng.choice(3, 40000, p=mixture.weights)
        relative = np.array([1.0 if s.weights is None else s.weights[0] for s in mixture.structures])[mixture.which]
        size = np.sqrt((mixture.variance * relative)[picks]) * np.linalg.norm(
            rng.standard_normal((40000, axes)), axis=1
        )
        assert found.prior_exceedance[0] == pytest.approx(np.mean(size > 1e-9), abs=0.012)

    def test_averaged_hands_on_the_decompositions(self, fixed):
        fixed.mean  # noqa: B018  decomposes
        one = maps.averaged(fixed, (0.0, 0.03))
        assert one.problem.shared is fixed.problem.shared
        assert len(one.times) == 1

    def test_strongest_region_is_the_posterior_of_a_region(self, fixed):
        centre, index, course = maps.strongest_region(fixed, 0.02, 0.02)
        assert centre in index
        assert (index < LEFT).all()
        exact = fixed.region({"it": index}, flip=True)
        assert_allclose(course.mean, exact.mean)
        found = maps.posterior_maps(fixed, 0.02, radius=0.02, draws=20)
        assert found.strongest == centre
        again = maps.strongest_region(fixed, 0.02, 0.02, found)
        assert again[0] == centre
        assert_allclose(again[2].mean, course.mean)

    def test_free_region_lies_along_its_mean(self):
        free = believed(made(3))
        _, index, course = maps.strongest_region(free, 0.02, 0.02)
        k = int(np.argmin(np.abs(TIMES - 0.02)))
        assert_allclose(course.mean[0, k], np.linalg.norm(free.mean[index, :, k].mean(axis=0)), rtol=1e-9)
        found = maps.posterior_maps(free, 0.02, radius=0.02, draws=20)
        assert_allclose(maps.strongest_region(free, 0.02, 0.02, found)[2].mean, course.mean)

    def test_says_what_is_wrong(self, fixed):
        with pytest.raises(ValueError, match="radius is -1"):
            maps.posterior_maps(fixed, radius=-1)
        with pytest.raises(ValueError, match="threshold is -1"):
            maps.posterior_maps(fixed, threshold=-1)
        with pytest.raises(ValueError, match="want the sources' positions"):
            maps.posterior_maps(bare(fixed, sources=None), radius=0.01)
        with pytest.raises(ValueError, match="no sample between"):
            maps.posterior_maps(fixed, (1.0, 2.0))


def lines(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): np.asarray(line.get_ydata(), dtype=float) for line in axes.lines}


class TestCalibration:
    """Over truths drawn from the prior, the peak lies within a radius as often as its probability says."""

    @pytest.fixture(scope="class")
    @staticmethod
    def empty():
        """Electrodes over a piece of the template's cortex, in an unbounded conductor, before anything is recorded."""
        from bayesinv.forward.unbounded import lead_field
        from bayesinv.head import template_cortex

        grid, sensors = template_cortex.sources("oct4"), template_cortex.electrodes(64)
        centre = template_cortex.cortex().positions[4000]
        grid = grid.pick(np.flatnonzero(np.linalg.norm(grid.positions - centre, axis=1) < 0.045))
        gain = lead_field(0.33, sensors, grid).rereference("average").fixed().gain[:, :, 0]
        covariance = 1e-14 * (np.eye(64) - 1 / 64)
        return bi.Problem.from_arrays(gain, np.zeros((64, 3)), covariance, rank=63, sources=grid, sensors=sensors)

    def score(self, empty, model, scales):
        """Of single sources and patches: excess of hits over the promised ones and lack of truths in the 80 % ball, in
        standard errors, and the mean promise."""
        rng = np.random.default_rng(5)
        weights = regions.patches(empty, maps.REGION)
        sizes = np.sqrt(weights.multiply(weights).sum(axis=1))
        promised, hits, covered = [], [], []
        for scale, noise in scales:
            current = scale * rng.standard_normal((empty.source_count, 3))
            field = empty.gain @ current + noise * rng.standard_normal(empty.recording.shape)
            recorded = empty.again(field, baseline=empty.baseline)
            single, regional = maps.both(bi.infer(model, recorded), (0.0, 2.0), draws=400, rng=rng)
            mean = current.mean(axis=1)
            found = [(single, np.abs(mean)), (regional, np.abs(weights @ mean) / sizes)]
            peaks = [(each.place(recorded), int(true.argmax())) for each, true in found]
            promised.append([peak.within(0.02) for peak, _ in peaks])
            distances = [np.linalg.norm(peak.positions[true] - peak.positions[peak.strongest]) for peak, true in peaks]
            hits.append([away <= 0.02 for away in distances])
            covered.append([away <= peak.radius(0.8) for away, (peak, _) in zip(distances, peaks, strict=True)])
        chance, hit = np.array(promised), np.array(hits, dtype=float)
        # A ball holds at least its share; a little more, for it grows by whole sources.
        short = (0.8 - np.mean(covered, axis=0)) / np.sqrt(0.16 / len(covered))
        return (hit - chance).sum(axis=0) / np.sqrt((chance * (1 - chance)).sum(axis=0)), short, chance.mean(axis=0)

    @pytest.mark.slow
    def test_with_known_scales(self, empty):
        excess, short, promised = self.score(empty, "minimum_norm", [(empty.scale_guess, 1.0)] * 60)
        assert (np.abs(excess) < 3).all()
        assert (short < 3).all()
        # Patches are resolved better, and both better than by chance.
        count = np.linalg.norm(empty.sources.positions[:, None] - empty.sources.positions, axis=2) <= 0.02
        assert promised[1] > promised[0] > 1.3 * count.mean()

    def test_it_would_show_a_wrong_answer(self, empty):
        # With noise that the model does not include, coverage is lower than promised.
        excess, short, _ = self.score(empty, "minimum_norm", [(empty.scale_guess, 5.0)] * 50)
        assert (excess < -3).all()
        assert (short > 2).all()

    @pytest.mark.slow
    def test_with_learned_scales(self, empty):
        rng = np.random.default_rng(8)
        scales = zip(
            empty.scale_guess * np.abs(rng.standard_normal(100)), np.exp(0.1 * rng.standard_normal(100)), strict=True
        )
        excess, short, _ = self.score(empty, "hierarchical", scales)
        assert (np.abs(excess) < 3).all()
        assert (short < 3).all()


class TestRecording:
    def test_draws_recording_and_fit_in_their_units(self, fixed):
        figure = figures.recording_and_fit(fixed)
        assert isinstance(figure, Figure)
        labels = [axes.get_ylabel() for axes in figure.axes]
        assert [label for label in labels if "\n(" in label] == [
            "Magnetometers\n(fT)", "Gradiometers\n(fT/cm)", "EEG\n(µV)",
        ]  # fmt: skip
        eeg = figure.axes[4]
        drawn = np.array([line.get_ydata() for line in eeg.lines[:5]])
        assert_allclose(drawn, 1e6 * fixed.problem.field.field[:5], rtol=1e-9)
        assert_allclose(eeg.lines[0].get_xdata(), 1e3 * TIMES)
        assert figure.axes[-1].get_xlabel() == "time (ms)"

    def test_fit_in_sensors_whitens_to_the_fit(self, fixed):
        figure = figures.recording_and_fit(fixed)
        fit = np.concatenate(
            [np.array([line.get_ydata() for line in figure.axes[i].lines[:n]]) / f
             for i, n, f in ((5, 5, 1e6), (1, 6, 1e15), (3, 8, 1e13))]
        )  # fmt: skip
        assert_allclose(fixed.problem.whitener @ fit, fixed.fitted, atol=1e-8)

    def test_power_is_that_of_the_whitened_arrays_and_noise_is_one(self, fixed):
        drawn = lines(figures.recording_and_fit(fixed).axes[-1])
        assert_allclose(drawn["recording"], np.sqrt(np.mean(fixed.problem.recording**2, axis=0)))
        assert_allclose(drawn["posterior mean"], np.sqrt(np.mean(fixed.fitted**2, axis=0)))
        assert_allclose(drawn["noise by the covariance, 1"], 1)

    def test_without_sensors_components_are_drawn(self, fixed):
        figure = figures.recording_and_fit(bare(fixed, sensors=None))
        assert figure.axes[0].get_ylabel() == "Whitened components\n(noise = 1)"
        assert_allclose(figure.axes[0].lines[2].get_ydata(), fixed.problem.recording[2])

    def test_one_sample_is_enough(self, fixed):
        one = bare(fixed, recording=fixed.problem.recording[:, :1], times=np.zeros(1), field=None)
        for figure in (figures.recording_and_fit(one), figures.region_course(one)):
            figure.savefig(BytesIO())
            assert figure.axes[-1].get_xlabel() == "sample"


class TestCourse:
    def test_draws_the_regions_mean_and_band(self, posterior):
        figure = figures.region_course(posterior, 0.02, level=0.8, radius=0.02)
        (axes,) = figure.axes
        course = maps.strongest_region(posterior, 0.02, 0.02)[2]
        assert_allclose(lines(axes)["posterior mean"], 1e9 * course.mean[0])
        band = next(x for x in axes.collections if x.get_label() == "80 % credible band")
        edge = band.get_paths()[0].vertices[:, 1]
        low, high = course.interval(0.8)
        assert_allclose([edge.min(), edge.max()], [1e9 * low.min(), 1e9 * high.max()], rtol=1e-9)
        assert "nA·m" in axes.get_ylabel()

    def test_prior_band_holds_its_share_of_the_prior(self, fixed):
        (axes,) = figures.region_course(fixed, 0.02, level=0.9, radius=0.02).axes
        index = maps.strongest_region(fixed, 0.02, 0.02)[1]
        band = next(x for x in axes.patches if "before" in x.get_label())
        sd = np.sqrt(fixed.mixture.weights @ fixed.mixture.variance / len(index))
        assert band.get_y() + band.get_height() == pytest.approx(1e9 * norm.ppf(0.95) * sd)

    def test_names_the_place_in_mri_coordinates(self, fixed):
        centre = maps.strongest_region(fixed, 0.02)[0]
        x = 1e3 * fixed.problem.sources.mri_positions[centre][0]
        assert f"MRI coordinates {x:.0f},".replace("-", "−") in figures.region_course(fixed, 0.02).axes[0].get_title(
            "left"
        )

    def test_works_without_positions(self, fixed):
        figure = figures.region_course(bare(fixed, sources=None))
        assert figure.axes[0].get_title("left").startswith("source ")

    def test_level_must_be_a_probability(self, fixed):
        with pytest.raises(ValueError, match=r"level is 1\.5"):
            figures.region_course(fixed, level=1.5)


class TestHyper:
    def test_says_median_and_interval(self, fixed):
        figure = figures.hyper(fixed, 0.9, prior={"snr": np.random.default_rng(0).lognormal(0, 1, 300)})
        titles = {axes.get_xlabel().split(" ")[0]: axes.get_title("left") for axes in figure.axes}
        low, high = fixed.hyper["snr"].interval(0.9)
        assert titles["signal-to-noise"] == figures.spell(float(fixed.hyper["snr"].quantile(0.5)), low, high, 0.9)
        assert any("1/(nA·m)²" in axes.get_xlabel() and axes.get_xscale() == "log" for axes in figure.axes)
        assert any("prior" in text.get_text() for axes in figure.axes for text in axes.texts)
        ticks = figure.axes[1].lines[-1].get_xdata()
        assert set(np.round(ticks, 9)) <= set(np.round(fixed.hyper["snr"].nodes, 9))

    def test_what_takes_few_values_has_a_bar_for_each(self, fixed, rng):
        values = np.geomspace(0.002, 0.2, 7)
        nodes = {**fixed.hyper.nodes, "constant": rng.choice(values, len(fixed.hyper.weights))}
        drawn = rng.choice(values, 400)
        size = len(next(iter(fixed.hyper.draws.values())))
        draws = {**fixed.hyper.draws, "constant": np.resize(drawn, size)}
        figure = figures.hyper(replace(fixed, hyper=Hyper(nodes, fixed.hyper.weights, draws)))
        (axes,) = (one for one in figure.axes if "time constant" in one.get_xlabel())
        assert len(axes.patches) == 7
        assert sum(patch.get_height() for patch in axes.patches) == pytest.approx(1)
        assert axes.get_xscale() == "log"

    def test_fixed_numbers_are_called_fixed(self, fixed):
        hyper = Hyper({k: v[:1] for k, v in fixed.hyper.nodes.items()}, np.ones(1),
                      {k: np.full(9, v[0]) for k, v in fixed.hyper.nodes.items()})  # fmt: skip
        figure = figures.hyper(replace(fixed, hyper=hyper))
        assert all("fixed by the model" in axes.get_title("left") for axes in figure.axes)

    @pytest.mark.parametrize(
        ("numbers", "words"),
        [
            ((1.2037, 1.1998, 1.2077), "1.2037,  90 % in 1.1998 to 1.2077"),
            ((3.0, 1.0, 9.0), "3.0,  90 % in 1.0 to 9.0"),
        ],
    )
    def test_spells_as_many_digits_as_differ(self, numbers, words):
        assert figures.spell(*numbers, 0.9) == words

    def test_prior_draws_follow_the_prior(self):
        problem = made()
        drawn = figures.prior_draws("hierarchical", problem, 2000)
        # The median of a half-Cauchy is its scale; that of 2000 draws has a standard error of π / 2 / √2000, 3.5 %.
        assert np.median(drawn["scale"]) == pytest.approx(problem.scale_guess, rel=0.14)
        assert_allclose(drawn["lambda"], drawn["noise"] ** 2 / drawn["scale"] ** 2)


class TestCortex:
    def test_draws_every_map_from_every_side(self, posterior):
        figure = figures.cortex_maps(posterior, 0.02, draws=30, radius=0.02, marks=[[-0.085, 0, 0.04]])
        labels = [axes.get_label() for axes in figure.axes if axes.images]
        assert len(labels) == 5
        assert labels[0] == "Posterior mean" + (", absolute" if posterior.problem.axes == 1 else ", norm")
        bars = [axes.get_title("left") for axes in figure.axes if not axes.images]
        assert bars == ["nA·m", "nA·m", "%", "%", "%"]
        words = " ".join(text.get_text() for text in figure.texts)
        assert words.startswith("left lateral left medial right medial right lateral")
        assert "Shrinkage" in words
        assert "before the recording" in words

    def test_draws_the_numbers_it_is_given(self, fixed):
        found = maps.posterior_maps(fixed, 0.02, draws=30)
        mean, sd, shrinkage, exceedance, peak = layers_of(found)
        assert_allclose(mean.values, 1e9 * np.abs(found.mean))
        assert_allclose(sd.values, 1e9 * found.sd)
        assert sd.high == pytest.approx(1e9 * found.prior_sd.max())
        assert_allclose(shrinkage.values, 100 * found.shrinkage)
        assert_allclose(exceedance.values, 100 * found.exceedance)
        assert (exceedance.low, exceedance.high) == (0, 100)
        assert_allclose(peak.values, 100 * found.near)

    @pytest.mark.parametrize("view", ["left lateral", "left medial", "right medial", "right lateral", "top", "back"])
    def test_pixels_show_the_source_in_front(self, view):
        sources = cortex()
        toward, up, side = figures.VIEWS[view]
        rendered = Surface(sources).render(view)
        inside = rendered.cover > 1 - 1e-9
        assert 0.6 < inside.mean() < 0.9
        # The rear half of a sphere is hidden: visible pixels face the viewer, and belong to the hemisphere shown.
        if side is not None:
            assert_allclose(rendered.values((sources.hemispheres == side).astype(float))[inside], 1)
            assert (rendered.values(sources.normals @ np.array(toward))[inside] > -0.25).all()
        for axis, direction in enumerate((np.cross(up, toward), up)):
            values = rendered.values(rendered.surface.unfolded @ direction)
            coordinate = (np.arange(inside.shape[1 - axis]) + 0.5) * OVERSAMPLING / PIXELS_PER_METRE
            wanted = rendered.corner[0] + coordinate[None, :] if axis == 0 else rendered.corner[1] - coordinate[:, None]
            assert_allclose(values[inside], np.broadcast_to(wanted, inside.shape)[inside], atol=1e-9)

    def test_open_surfaces_are_seen_from_behind_too(self):
        closed = cortex()
        assert Surface(closed)._orientation is not None
        opened = replace(closed, triangles=closed.triangles[:-1])
        assert Surface(opened)._orientation is None
        # Turned inside out it is the same surface.
        inverted = replace(closed, triangles=closed.triangles[:, ::-1])
        views = [Surface(each).render("left lateral") for each in (closed, opened, inverted)]
        for rendered in views[1:]:
            assert np.abs(rendered.cover - views[0].cover).max() < 0.3
            assert np.mean(np.abs(rendered.cover - views[0].cover) > 1e-9) < 0.01

    def test_maps_fade_into_white_beside_the_surface(self):
        rendered = Surface(cortex()).render("top")
        painted = rendered.paint(np.zeros((*rendered.cover.shape, 4)))
        assert_allclose(painted, np.repeat(1 - rendered.cover[:, :, None], 3, axis=2))
        assert ((rendered.cover > 0) & (rendered.cover < 1)).any()

    def test_marks_in_front_are_in_sight_and_others_are_not(self):
        surface = Surface(cortex())
        marks = np.array([[-0.085, 0.0, 0.04], [-0.005, 0.0, 0.04]])
        _, visible, shown = surface.render("left lateral").project(marks)
        assert visible.tolist() == [True, False]
        assert shown.all()
        assert surface.render("left medial").project(marks)[1].tolist() == [False, True]
        assert not surface.render("right lateral").project(marks)[2].any()

    def test_points_where_there_are_no_triangles(self, fixed):
        points = bare(fixed, sources=replace(fixed.problem.sources, triangles=None))
        figure = figures.cortex_maps(points, 0.02, draws=20, marks=[[0.0, 0.0, 0.05]])
        assert "x (mm)" in [axes.get_xlabel() for axes in figure.axes]
        scatter = figure.axes[0].collections[0]
        assert sorted(scatter.get_array()) == pytest.approx(sorted(1e9 * np.abs(maps.averaged(fixed, 0.02).mean[:, 0])))

    def test_lines_where_there_are_no_positions(self, fixed):
        figure = figures.cortex_maps(bare(fixed, sources=None), 0.02, draws=20)
        assert figure.axes[-1].get_xlabel() == "source"
        assert_allclose(figure.axes[0].lines[0].get_ydata(), 1e9 * np.abs(maps.averaged(fixed, 0.02).mean[:, 0]))

    def test_compares_with_units_and_common_scale(self, fixed):
        rng = np.random.default_rng(0)
        size = LEFT + RIGHT
        given = {"truth": np.linspace(0, 1e-9, size), "mean": np.linspace(-3e-9, 1e-9, size), "odds": rng.random(size)}
        figure = figures.compare_maps(given, fixed.problem, units={"odds": "probability"}, common=True, views=("top",))
        bars = [axes for axes in figure.axes if not axes.images]
        assert [axes.get_title("left") for axes in bars] == ["nA·m", "nA·m", "%"]
        assert bars[0].get_ylim()[1] == pytest.approx(bars[1].get_ylim()[1])
        assert bars[1].get_ylim()[0] == pytest.approx(-bars[1].get_ylim()[1])
        assert bars[2].get_ylim() == pytest.approx((0, 100))

    def test_says_what_is_wrong(self, fixed):
        with pytest.raises(ValueError, match=r"no view named 'lft'.*did you mean 'left'"):
            figures.cortex_maps(fixed, 0.02, draws=10, views=("lft",))
        with pytest.raises(ValueError, match=r"marks has shape \(1, 2\)"):
            figures.cortex_maps(fixed, 0.02, draws=10, marks=[[0.1, 0.2]])
        with pytest.raises(ValueError, match="truth has source = 3, but the problem has source = 114"):
            figures.compare_maps({"truth": np.zeros(3)}, fixed.problem)
        with pytest.raises(ValueError, match="there is no map"):
            figures.compare_maps({}, fixed.problem)


def test_drawing_leaves_pyplot_alone(fixed):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figures.hyper(fixed)
    assert plt.get_fignums() == before


class TestFocal:
    """What is drawn where there are focal sources."""

    @staticmethod
    def found():
        believed_in = believed(made())
        active = sets(False)
        active = replace(active, strength=1e-8 * active.strength)
        mixture = Mixture(
            np.array([0.1, 0.2, 0.3, 0.4]), np.full(4, 1e-20), np.ones(4), np.zeros(4, dtype=int), (Structure(),)
        )
        return replace(believed_in, mixture=mixture, active=active)

    def test_inclusion_takes_the_place_of_shrinkage_and_peak(self):
        posterior = self.found()
        for one in maps.both(posterior, draws=20):
            layers = layers_of(one)
            words = ("Posterior mean", "Posterior standard deviation", "Probability that a focal source", "Probability")
            assert [layer.title.startswith(word) for layer, word in zip(layers, words, strict=True)] == [True] * 4
            assert_allclose(layers[2].values, 100 * posterior.inclusion())
            assert layers[1].high <= 1e9 * one.uncertainty.max() * (1 + 1e-12)
            assert "before" not in layers[3].note

    def test_others_have_none(self, fixed):
        one = maps.posterior_maps(fixed, draws=20)
        assert one.inclusion is None
        assert [layer.title.split()[0] for layer in layers_of(one)][2:] == ["Shrinkage:", "Probability", "Probability"]

    def test_the_strongest_patch_is_strongest_by_itself(self):
        posterior = self.found()
        regional = maps.both(posterior, draws=20)[1]
        expected = int(np.abs(regional.mean).argmax())
        assert regional.strongest == expected
        assert maps.strongest_region(posterior)[0] == expected
        assert maps.strongest_region(posterior, maps=regional)[0] == expected
        assert expected != int((np.abs(regional.mean) / regional.prior_sd).argmax())

    def test_nothing_is_said_of_what_was_believed_before(self, fixed):
        def labels(posterior):
            return figures.region_course(posterior).axes[0].get_legend_handles_labels()[1]

        before = "90 % before the recording"
        assert before in labels(fixed)
        assert before not in labels(self.found())


class TestChains:
    def test_want_nuts(self, fixed):
        from bayesinv import figures

        with pytest.raises(ValueError, match="integrated by by hand; only what is sampled has chains"):
            figures.chains(fixed)

    def test_a_row_per_hyperparameter_and_a_line_per_chain(self, fixed):
        from bayesinv import figures

        # By whatever method: NUTS, Gibbs sampling and active sets all have chains, which the report draws.
        sampled = replace(fixed, hyper=replace(fixed.hyper, chains=2))
        figure = figures.chains(sampled)
        rows = len([name for name in fixed.hyper if name not in ("lambda", "snr")][:5]) + 1
        assert len(figure.axes) == 2 * rows
        assert all(len(axes.lines) == 2 for axes in figure.axes[::2])
