"""Figures of scores show the numbers that were counted."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesinv import figures
from bayesinv.scoring.coverage import Pit
from bayesinv.scoring.reliability import Reliability


@pytest.fixture
def pits(rng):
    return {"all": Pit.of(rng.random(700)), "active": Pit.of(rng.beta(0.3, 0.4, 90))}


@pytest.fixture
def tables(rng):
    claims = rng.random(300)
    return {"all": Reliability.of(claims, rng.random(300) < claims), "few": Reliability.of([0.2, 0.9], [False, True])}


def drawn(figure):
    """The figure, after drawing it whole."""
    figure.savefig(BytesIO())
    return figure


def test_coverage_curves_are_the_coverages(pits):
    axes = drawn(figures.coverage_curve(pits)).axes[0]
    diagonal, *lines = axes.get_lines()
    assert_allclose(*diagonal.get_data())
    for line, pit in zip(lines, pits.values(), strict=True):
        assert_allclose(line.get_ydata(), pit.coverage(line.get_xdata()))
        assert line.get_ydata()[-1] == 1
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [word.split(" (")[0] for word in words] == ["all", "active"]


def test_reliability_shows_frequencies_against_claims(tables):
    axes, below = drawn(figures.reliability_diagram(tables)).axes
    for line, counts, found in zip(axes.get_lines()[1:], below.get_lines(), tables.values(), strict=True):
        table = found.table[found.counts > 0]
        assert_allclose(line.get_xydata(), table[:, :2])
        assert_allclose(counts.get_ydata(), table[:, 2])
    assert len(axes.get_lines()[2].get_xdata()) == 2


def test_histogram_has_density_one_where_it_is_flat(pits):
    axes = drawn(figures.pit_histogram(pits["active"], 10, independent=45)).axes[0]
    bars = [patch for patch in axes.patches if patch.get_width() < 0.5]
    assert_allclose([bar.get_height() for bar in bars], pits["active"].histogram(10) / 9)
    assert_allclose(np.mean([bar.get_height() for bar in bars]), 1)
    band = next(patch for patch in axes.patches if patch.get_width() > 0.5)
    assert_allclose(band.get_height() / 2, 1.96 * np.sqrt(9 / 45), rtol=1e-3)
    assert len(drawn(figures.pit_histogram(Pit.of(np.arange(20) / 20 + 0.02))).axes[0].patches) == 20


def test_nothing_counted_is_nothing_to_draw(pits, tables):
    for draw in (figures.coverage_curve, figures.reliability_diagram):
        with pytest.raises(ValueError, match="nothing was counted, so"):
            draw({})
    with pytest.raises(ValueError, match="nothing was counted in none, so"):
        figures.coverage_curve({**pits, "none": Pit.of([])})
    with pytest.raises(ValueError, match="nothing was counted in none, so"):
        figures.reliability_diagram({**tables, "none": Reliability.of([], np.zeros(0, bool))})
    with pytest.raises(ValueError, match="nothing was counted"):
        figures.pit_histogram(Pit.of([]))
    with pytest.raises(ValueError, match="bins is 7"):
        figures.pit_histogram(pits["all"], 7)
    with pytest.raises(ValueError, match="independent is 0"):
        figures.pit_histogram(pits["all"], independent=0)
