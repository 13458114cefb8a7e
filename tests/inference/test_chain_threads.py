"""Threads for chains: linear algebra keeps to one processor while they run, and only then."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from bayesinv.inference.chain_threads import SMALL, chain_threads


def blas():
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_linear_algebra_has_one_processor_until_the_last_chains_end():
    with threadpool_limits(2, user_api="blas"):
        before = blas()
        barrier = Barrier(3, timeout=20)

        def one(_):
            with chain_threads(2, SMALL + 1):
                barrier.wait()
                return blas()

        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(one, range(3))) == [{1}] * 3
        assert blas() == before
        with pytest.raises(RuntimeError, match="stopped"), chain_threads(2, SMALL + 1):
            raise RuntimeError("stopped")
        assert blas() == before


def test_small_problems_have_one_thread():
    for size, most in ((SMALL, 1), (SMALL + 1, 2)):
        with chain_threads(2, size) as pool:
            assert pool._max_workers <= most
