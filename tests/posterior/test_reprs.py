"""What nouns say of themselves at a prompt: a line, and no arrays."""

import numpy as np
import pytest
from referee import toy

import bayesinv as bi


@pytest.fixture(scope="module")
def posterior():
    return bi.infer("temporal", toy(samples=6))


def test_nouns_are_told_in_a_line(posterior):
    functional = posterior.contrast(np.eye(4, posterior.problem.source_count), names=list("abcd"))
    for noun, start in (
        (posterior, "<Posterior of "),
        (posterior.hyper, "<Hyper: lambda "),
        (posterior.hyper["noise"], "<Scalar: "),
        (posterior.checks[0], f"<Check {posterior.checks[0].name}: passed, "),
        (posterior.peak(draws=20), "<Peak at "),
        (functional, "<Functional: a, b, c, ... | 6 samples | "),
    ):
        told = repr(noun)
        assert told.startswith(start)
        assert len(told) < 200
        assert "\n" not in told
        assert "array(" not in told


def test_people_are_shown_no_logarithm_beside_its_value(posterior):
    assert {"log_constant", "constant"} <= set(posterior.hyper)
    assert posterior.hyper.shown == ("lambda", "snr", "noise", "scale", "constant")
