"""Blocks of samples left out where noise has two colours: against their dense conditional density."""

from dataclasses import replace

import numpy as np
import pytest
from coloured import coloured, dense
from numpy.testing import assert_allclose

from bayesinv.covariance.covariance import Structure
from bayesinv.criticism import stacked_blocks
from bayesinv.criticism.left_out_parts import LeavingOut
from bayesinv.criticism.stacked_blocks import RATIO_TOLERANCE, WEAK, TooManyTogetherError, stacked_densities
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.evidence.spectrum import Spectrum

BLOCKS = [slice(0, 5), slice(5, 8), slice(20, 24)]
VARIANCE, NOISE = 0.3, 0.8


@pytest.fixture(scope="module")
def spectrum():
    """Two colours, and currents with a time constant, in several decompositions."""
    found = Spectrum.of(coloured(2, samples=24), Structure(time=0.01))
    assert len(found.decompositions) > 1
    return found


@pytest.fixture(scope="module")
def conditionals(spectrum):
    """Dense log density of each block given all other samples: from the precision of the recording."""
    problem = spectrum.problem
    precision = np.linalg.inv(dense(problem, spectrum.structure, VARIANCE, NOISE)[1])
    pulled = (precision @ problem.recording.ravel()).reshape(5, 24)
    precision = precision.reshape(5, 24, 5, 24)
    out = []
    for block in BLOCKS:
        some = pulled[:, block].ravel()
        own = precision[:, block, :, block].reshape(len(some), -1)
        out.append(0.5 * (np.linalg.slogdet(own)[1] - some @ np.linalg.solve(own, some) - len(some) * LOG_2PI))
    return np.array(out)


def densities(spectrum, variance=VARIANCE, noise=NOISE):
    return stacked_densities(spectrum, np.atleast_1d(variance), np.atleast_1d(noise), BLOCKS)


@pytest.mark.parametrize("few", [500, 0])
def test_they_are_dense_conditionals(spectrum, conditionals, monkeypatch, few):
    """By the precision of all numbers, and by the combinations in which there are currents, however weak."""
    monkeypatch.setattr(stacked_blocks, "FEW_TOGETHER", few)
    monkeypatch.setattr(stacked_blocks, "WEAK", 0.0)
    assert_allclose(densities(spectrum)[0], conditionals, rtol=1e-8)


def test_weak_currents_count_one_by_one_to_first_order(spectrum, conditionals, monkeypatch):
    """Where all are weak the error is of second order; beside strong ones it is their share of each number at most."""
    monkeypatch.setattr(stacked_blocks, "FEW_TOGETHER", 0)
    assert np.abs(densities(spectrum)[0] - conditionals).max() < WEAK * 25
    off = []
    for variance in (1e-5, 1e-6):
        monkeypatch.setattr(stacked_blocks, "WEAK", 0.0)
        exact = densities(spectrum, variance)
        monkeypatch.setattr(stacked_blocks, "WEAK", np.inf)
        none = densities(spectrum, 0.0)
        off.append(np.abs(densities(spectrum, variance) - exact).max())
        assert off[-1] < 0.05 * np.abs(none - exact).max()
    assert off[1] < 0.03 * off[0]


def test_many_ratios_are_interpolated(spectrum):
    rng = np.random.default_rng(0)
    variance, noise = VARIANCE * np.exp(0.1 * rng.standard_normal(60)), NOISE * np.exp(0.01 * rng.standard_normal(60))
    one_by_one = np.concatenate([densities(spectrum, *pair) for pair in zip(variance, noise, strict=True)])
    together = densities(spectrum, variance, noise)
    assert_allclose(together, one_by_one, rtol=0, atol=RATIO_TOLERANCE)
    assert np.abs(together - one_by_one).max() > 0


def test_how_many_numbers_a_block_has_does_not_matter(spectrum, conditionals, monkeypatch):
    """Only currents above the noise are taken together, and they are few."""
    monkeypatch.setattr(stacked_blocks, "MAX_TOGETHER", 20)
    monkeypatch.setattr(stacked_blocks, "FEW_TOGETHER", 0)
    monkeypatch.setattr(stacked_blocks, "WEAK", 1e-9)
    assert_allclose(densities(spectrum)[0], conditionals, atol=1e-6)


def test_too_many_currents_are_refused(spectrum, monkeypatch):
    monkeypatch.setattr(stacked_blocks, "FEW_TOGETHER", 0)
    monkeypatch.setattr(stacked_blocks, "MAX_STRONG", 7)
    with pytest.raises(TooManyTogetherError, match=r"a block of \d+ combinations of samples in which .*at most 7"):
        densities(spectrum)


class Again:
    """A refit whose densities are known."""

    def of(self, name):
        return self

    def left_out(self, part):
        return -float(part.start)


def test_without_what_cannot_be_taken_together_models_are_integrated_again():
    def refused():
        raise TooManyTogetherError("too many")

    leaving = LeavingOut({"temporal": None}, Again(), "auto", 10, False)
    row = leaving._row("temporal", "blocks", BLOCKS, refused, False, sparing=True)
    assert row.refitted.all()
    assert_allclose(row.log_density, [-0.0, -5.0, -20.0])
    with pytest.raises(TooManyTogetherError):
        replace(leaving, refit="never")._row("temporal", "blocks", BLOCKS, refused, False)
