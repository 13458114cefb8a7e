"""Linear algebra keeps to one processor during inference, and only then."""

import pytest
from bayesinv.models import hierarchical
from coloured import coloured
from threadpoolctl import threadpool_info, threadpool_limits

import bayesinv as bi
from bayesinv.cli.outcome import on_one_processor
from bayesinv.inference.chain_threads import SMALL, chain_threads


def blas():
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_linear_algebra_has_one_processor_until_the_last_chains_end():
    with threadpool_limits(2, user_api="blas"):
        before = blas()
        first, second = chain_threads(2, SMALL + 1), chain_threads(2, SMALL + 1)
        with first as pool:
            assert blas() == {1}
            assert pool.submit(blas).result() == {1}
        assert blas() == before
        # Whoever ends first leaves the others what they want.
        first = chain_threads(2, SMALL + 1)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert blas() == {1}
        second.__exit__(None, None, None)
        assert blas() == before
        with pytest.raises(RuntimeError, match="stopped"), chain_threads(2, SMALL + 1):
            raise RuntimeError("stopped")
        assert blas() == before


def test_small_problems_have_one_thread():
    for size, most in ((SMALL, 1), (SMALL + 1, 2)):
        with chain_threads(2, size) as pool:
            assert pool._max_workers <= most


def test_inference_and_commands_keep_to_one_processor():
    problem = coloured()
    with threadpool_limits(2, user_api="blas"):
        before, inside = blas(), []

        def watched(problem):
            inside.append(blas())
            return hierarchical.model(problem)

        bi.infer(watched, problem)
        assert on_one_processor(lambda: inside.append(blas()) or 0)() == 0
        assert inside == [{1}, {1}]
        with pytest.raises(ValueError, match="no model named"):
            bi.infer("nothing", problem)
        assert blas() == before
