"""Laws of the report: it shows the posterior's numbers, needs no other file, and is complete or absent."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from referee import toy
from test_figures import LEFT, RIGHT, bare, believed, made
from test_focal import posterior as focal_posterior

import bayesinv as bi
from bayesinv import figures, report
from bayesinv.criticism.posterior_predictive import CONSERVATIVE, posterior_predictive
from bayesinv.posterior import maps
from bayesinv.posterior.checks import Check
from bayesinv.posterior.hyper import Hyper
from bayesinv.problem.account import account
from bayesinv.report import tables
from bayesinv.report.posterior import _headline
from bayesinv.report.sentences import focal_sentences
from bayesinv.wording import from_draws

PICTURES = ["course.png", "hyper.png", "maps.png", "recording.png", "sources.png"]


@pytest.fixture(scope="module", autouse=True)
def coarse():
    """Coarse pictures: what they show is the figures' business, and the page's laws do not ask for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bayesinv.report.page.DOTS_PER_INCH", 40)
        patch.setattr("bayesinv.figures.surface.PIXELS_PER_METRE", 600.0)
        yield


@pytest.fixture(scope="module")
def posterior():
    return believed(made())


@pytest.fixture(scope="module")
def page(posterior, tmp_path_factory):
    return report.write(posterior, tmp_path_factory.mktemp("report") / "new" / "folder", window=0.02, draws=60)


class Reader(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_page_stands_alone(page):
    text = page.read_text(encoding="utf-8")
    reader = Reader(text)
    assert not reader.open
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in reader.tags}
    for _, attributes in reader.tags:
        for name in ("src", "href", "srcset", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "url(" not in text
    assert "@import" not in text
    assert len(text) < 3_000_000


def test_every_picture_says_what_it_shows(page):
    images = [attributes for tag, attributes in Reader(page.read_text(encoding="utf-8")).tags if tag == "img"]
    assert len(images) == len(PICTURES)
    assert all(len(image["alt"]) > 20 for image in images)
    assert sorted(path.name for path in page.parent.iterdir()) == sorted([*PICTURES, "report.html"])
    for name in PICTURES:
        assert (page.parent / name).read_bytes().startswith(b"\x89PNG")


def test_numbers_are_the_posteriors(page, posterior):
    text = Reader(page.read_text(encoding="utf-8")).text
    low, high = posterior.hyper["lambda"].interval(0.9)
    middle = float(posterior.hyper["lambda"].quantile(0.5))
    assert figures.spell(1e-18 * middle, 1e-18 * low, 1e-18 * high, 0.9) in text
    low, high = posterior.hyper["snr"].interval(0.9)
    assert figures.spell(float(posterior.hyper["snr"].quantile(0.5)), low, high, 0.9) in text
    assert "−1234.50 ± 0.001" in text
    assert figures.percent(posterior.goodness_of_fit) in text
    drawn = maps.averaged(posterior, 0.02).draw(60, np.random.default_rng(0))
    found = maps.posterior_maps(posterior, 0.02, radius=maps.REGION, drawn=drawn)
    x, y, z = 1e3 * posterior.problem.sources.mri_positions[found.strongest]
    assert f"left hemisphere near ({x:.0f}, {y:.0f}, {z:.0f}) mm in MRI".replace("-", "−") in text
    distance = np.linalg.norm(
        posterior.problem.sources.positions - posterior.problem.sources.positions[found.strongest], axis=1
    )
    assert f"has probability {from_draws(found.peak[distance <= 0.02].sum(), 60)}" in text
    assert "At 20 ms" in text or "At 21 ms" in text or "At 19 ms" in text
    assert "Hierarchical minimum norm" in text
    assert "bayesinv" in text


@pytest.mark.slow
def test_says_what_was_used(page, posterior):
    text = Reader(page.read_text(encoding="utf-8")).text
    assert "What was used" in text
    assert all(words in text for words in account(posterior.problem).values())


@pytest.mark.slow
def test_checks_that_fail_are_seen(posterior, tmp_path):
    failed = replace(posterior, checks=(*posterior.checks, Check("edge <mass>", 0.5, "< 1e-6", False, "too coarse")))
    text = report.write(failed, tmp_path, draws=20).read_text(encoding="utf-8")
    assert "✗ failed" in text
    assert "✓ passed" in text
    assert "Checks failed: edge &lt;mass&gt;" in text
    assert "All checks passed" not in text


@pytest.mark.slow
def test_text_is_escaped_and_sections_are_shown(posterior, tmp_path):
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([1, 2])
    alien = replace(posterior, model="<img src=x>")
    path = report.write(
        alien, tmp_path, title="<script>alert(1)</script>", draws=20, window=(0.01, 0.03),
        sections=[("A & <b>", "<p>kept as <em>it</em> is</p>"), ("Picture", figure)],
        truth=[-0.085, 0, 0.04], others={"<u>MNE": np.full(LEFT + RIGHT, 1e-9)}, card="a <i>card",
    )  # fmt: skip
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "A &amp; &lt;b&gt;" in text
    assert "<p>kept as <em>it</em> is</p>" in text
    assert "<img src=x>" not in text
    assert "<u>" not in text
    assert "a &lt;i&gt;card" in text
    assert "The truth is known here: the strongest mean lies" in text
    assert "Mean of 10 to 30 ms" in text or "Mean of 9 to 31 ms" in text or re.search(r"[Mm]ean of \d+ to \d+ ms", text)
    assert {"section-2.png", "compare.png"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.slow
def test_replicated_recordings_are_shown_with_their_p_values(page, posterior, tmp_path):
    checked = posterior_predictive(posterior, 20, quantity=np.max)
    path = report.write(posterior, tmp_path, draws=20, predictive=checked)
    text = Reader(path.read_text(encoding="utf-8")).text
    assert "Recordings that could have been" in text
    assert CONSERVATIVE in text
    for one, cells in zip(checked.every, checked.cells(), strict=True):
        assert one.title in text
        assert all(cell in text for cell in cells)
    assert (tmp_path / "predictive.png").is_file()
    assert "Recordings that could have been" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("axes", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_works_without_geometry(axes, tmp_path, monkeypatch):
    # Its figures are made, but what they look like as pixels is no matter of the words.
    monkeypatch.setattr("bayesinv.report.page.pixels", lambda figure: (b"", b""))
    plain = bare(believed(made(axes)), sources=None, sensors=None, whitener=None, times=np.arange(17.0), field=None)
    text = report.write(replace(plain, log_evidence=None, checks=()), tmp_path, draws=20).read_text(encoding="utf-8")
    assert "not given by this method" in text
    assert re.search(r"At sample \d+ the strongest source lies at source \d+", text)


@pytest.mark.slow
def test_free_orientation(tmp_path):
    text = report.write(believed(made(3)), tmp_path, draws=20).read_text(encoding="utf-8")
    assert "free orientation" in text


@pytest.mark.slow
def test_failure_leaves_nothing_behind(posterior, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no sample between"):
        report.write(posterior, tmp_path / "a", window=(5.0, 6.0))
    assert not (tmp_path / "a").exists()
    with pytest.raises(ValueError, match="MNE has source = 3"):
        report.write(posterior, tmp_path / "b", draws=20, others={"MNE": np.zeros(3)})
    assert not (tmp_path / "b").exists()
    (tmp_path / "c").write_text("kept")
    with pytest.raises(ValueError, match="is a file, but the report wants a folder"):
        report.write(posterior, tmp_path / "c")
    assert (tmp_path / "c").read_text() == "kept"

    def full(self, target):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="no space"):
        report.write(posterior, tmp_path / "d", draws=20)
    assert not list((tmp_path / "d").iterdir())


@pytest.mark.slow
def test_real_recording_is_small_and_right(sample, tmp_path, monkeypatch):
    monkeypatch.setattr("bayesinv.report.page.DOTS_PER_INCH", 140)
    monkeypatch.setattr("bayesinv.figures.surface.PIXELS_PER_METRE", 3400.0)
    import mne

    import bayesinv as bi
    from bayesinv.bridges.mne_in import from_mne

    evoked = mne.read_evokeds(sample / "sample-right-ave.fif", "Right Auditory", verbose="error")
    forward = mne.read_forward_solution(sample / "sample-oct5-fwd.fif", verbose="error")
    covariance = mne.read_cov(sample / "sample-noise-cov.fif", verbose="error")
    posterior = bi.infer("hierarchical", from_mne(evoked, forward, covariance, orientation="fixed"))
    path = report.write(posterior, tmp_path, window=0.085)
    assert path.stat().st_size < 3_000_000
    found = maps.posterior_maps(posterior, 0.085, radius=maps.REGION)
    place = 1e3 * posterior.problem.sources.mri_positions[found.strongest]
    assert np.linalg.norm(place - [-43, -21, 30]) < 25  # where MNE-Python's dSPM peaks
    assert "in the left hemisphere" in path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_chains_over_active_sets_are_drawn(tmp_path):
    posterior = bi.infer("focal", toy(sensors=12, sources=30, samples=20, quiet=20), chains=2, sweeps=50, warm=20)
    report.write(posterior, tmp_path)
    assert (tmp_path / "chains.png").exists()
    text = (tmp_path / "report.html").read_text()
    for words in ("number of focal sources", "The posterior mean explains", "λ of dense currents"):
        assert words in text
    # Single sources have a statement of their own; that of the strongest patch would be another question's.
    assert "That the peak truly lies" not in text


@pytest.fixture(scope="module")
def focal():
    found = focal_posterior(toy(samples=7, sources=8))
    names = ("noise", "scale", "lambda", "snr", "constant", "head 1")
    values = {name: np.array([1.0, 1.1, 1.3, 1.2]) * 10.0**-i for i, name in enumerate(names)}
    return replace(found, hyper=Hyper(values, found.mixture.weights, values))


def test_numbers_of_sources_take_the_place_of_the_peak(focal):
    single, regional = maps.both(focal, draws=20)
    page = Reader(_headline(focal, single, regional, None)).text
    assert "the peak lies there" not in page
    assert_allclose(focal.count.probability[:3], [0.1, 0.2, 0.7])
    assert re.search(r"number of focal sources\W*probability\W*0\W*10 %\W*1\W*20 %\W*2\W*70 %", page)


def test_sources_come_before_scales_that_are_those_of_dense_currents(focal, tmp_path):
    page = Reader(tables.facts(focal)).text
    assert page.index("number of focal sources") < page.index("focal source 1") < page.index("signal-to-noise ratio")
    assert focal.foci[0].describe().replace("-", "−") in page
    text = Reader(report.write(focal, tmp_path, draws=20).read_text(encoding="utf-8")).text
    assert "comes down to 0" not in text
    assert "those of the dense currents beside the focal sources" in text
    assert "head 1" in text
    # What is said below the pictures is of what they show.
    for words in ("With more sources", "Shrinkage", "before the recording", "for its size"):
        assert words not in text
    assert "The third map is the probability that a focal source's patch holds a place" in text


def test_a_known_truth_is_held_against_the_nearest_focal_source():
    centre, other = np.array([0.0, 0.0, 0.08]), np.array([0.05, 0.0, 0.06])
    posterior = focal_posterior(toy(samples=7, sources=8))
    likely = SimpleNamespace(probability=0.9, centre=centre, describe=lambda: "there")
    weak = SimpleNamespace(probability=0.2, centre=other, describe=lambda: "elsewhere")
    stand_in = SimpleNamespace(active=posterior.active, count=posterior.count, goodness_of_fit=0.5, foci=(likely, weak))
    words = " ".join(focal_sentences(stand_in, other[None]))
    assert f"their probabilities: {posterior.count.describe()}. One source lies at one place" in words
    assert "interval" not in words
    assert "Source 1, in head coordinates: there." in words
    assert "elsewhere" not in words
    assert f"source 1 lies {1e3 * np.linalg.norm(other - centre):.0f} mm from it" in words
