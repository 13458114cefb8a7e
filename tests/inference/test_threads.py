"""Inference from several threads gives what it gives from one, to the last digit."""

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from structured import scene

import bayesinv as bi
from bayesinv.prior import vectorised

ASKED = [
    ("hierarchical", "quadrature"),
    ("depth_weighted", "quadrature"),
    ("sensor_noise", "laplace"),
    ("smooth", "quadrature"),
    ("temporal", "laplace"),
    ("hierarchical", "laplace"),
]


def problems():
    """A problem, another recording of the same gain, and another problem; each new, so that nothing is known of it."""
    one, other = scene(samples=8, quiet=6), scene(samples=8, quiet=6, seed=1)
    return [one, one.again(-2 * one.recording, baseline=one.baseline), other]


def numbers(model, method, problem):
    found = bi.infer(model, problem, method, draws=60, rng=np.random.default_rng(4))
    hyper = {name: found.hyper[name].draws for name in found.hyper}
    return {"mean": found.mean, "sd": found.sd, "evidence": float(found.log_evidence), **hyper}


@pytest.fixture
def hasty():
    """Threads that take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.slow
def test_many_threads_give_what_one_gives(hasty):
    """Of 24 runs, some ask the same problem, some share what was worked out of a gain, and all share functions."""
    given = problems()
    sequential = {(ask, i): numbers(*ask, given[i]) for ask, i in product(ASKED, range(3))}
    vectorised.GRAPH_FUNCTIONS.clear()
    given = problems()
    # Twice the first problem, and by problem first: those that want one thing want it at the same time.
    jobs = [(ask, i) for i, ask in product((0, 0, 1, 2), ASKED)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: numbers(*job[0], given[job[1]]), jobs))
    assert len(found) == 24
    for job, one in zip(jobs, found, strict=True):
        assert one.keys() == sequential[job].keys()
        for name, value in one.items():
            assert_array_equal(value, sequential[job][name], err_msg=f"{job} {name}")
