"""Processes for chains: what they share, ask, raise and print, how they end, and that they change no draw."""

import os
import sys
import time

import numpy as np
import pytest
from referee import toy

import bayesinv as bi
from bayesinv.inference import chain_workers as workers_of
from bayesinv.inference.chain_workers import chain_workers
from bayesinv.inference.processes import LARGE, read_shared, write_shared


def asked_twice(desk, number, given):
    print("what is printed goes elsewhere")
    desk.kept[number] = desk.ask("double", given) + desk.shared["large"][-1]
    return desk.kept[number], os.getpid()


def kept(desk, number, _):
    return desk.kept[number]


def failing(desk, number, given):
    raise LookupError(given)


def ending(desk, number, given):
    os._exit(3)


def sleeping(desk, number, seconds):
    desk.ask("double", 1)
    time.sleep(seconds)


@pytest.fixture
def two_processors(monkeypatch):
    monkeypatch.setattr(workers_of, "thread_count", lambda: 2)
    monkeypatch.setattr(workers_of, "LONG", 10)
    monkeypatch.setattr(workers_of, "SMALL", 10)


def begun(sweeps=10, answers=None):
    large = np.arange(LARGE // 4, dtype=np.float64)
    return chain_workers({"large": large}, answers or {"double": lambda one: 2 * one}, 3, sweeps, 11)


def test_large_arrays_are_mapped_and_small_ones_are_copied(tmp_path):
    large, small = np.arange(LARGE // 4, dtype=np.float64).reshape(2, -1), np.arange(5.0)
    large_too = np.asfortranarray(large.astype(np.float32))
    write_shared(tmp_path / "shared", {"one": (small, large), "other": large_too})
    found = read_shared(tmp_path / "shared")
    assert np.array_equal(found["one"][0], small)
    assert np.array_equal(found["one"][1], large)
    assert np.array_equal(found["other"], large_too)
    assert found["one"][0].flags.writeable
    assert not found["one"][1].flags.writeable
    assert found["one"][1].ctypes.data % 64 == 0


def test_each_chain_has_a_process_that_asks_and_remembers(two_processors):
    with begun() as workers:
        found = workers.each(asked_twice, [1.0, 2.0, 3.0])
        last = LARGE // 4 - 1
        assert [one for one, _ in found] == [2 + last, 4 + last, 6 + last]
        places = [place for _, place in found]
        assert places[0] == places[2] != places[1]
        assert os.getpid() not in places
        assert workers.each(kept, [None] * 3) == [one for one, _ in found]
        with pytest.raises(LookupError, match="2"):
            workers.each(failing, [2, 2, 2])
    for place in set(places):
        with pytest.raises(ProcessLookupError):
            os.kill(place, 0)
    # Few sweeps are no reason to start one.
    with begun(sweeps=9) as workers:
        assert {place for _, place in workers.each(asked_twice, [1.0, 2.0, 3.0])} == {os.getpid()}


def test_a_process_that_ends_is_told_of(two_processors):
    with pytest.raises(RuntimeError, match="exit code 3"), begun() as workers:
        workers.each(ending, [0, 0, 0])


@pytest.mark.parametrize("sweeps", [10, 9])
def test_who_is_interrupted_does_not_wait_for_chains(two_processors, sweeps):
    started = time.perf_counter()

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), begun(sweeps, {"double": interrupted}) as workers:
        workers.each(sleeping, [60, 60, 60])
    assert time.perf_counter() - started < 30


def test_where_no_process_can_be_started_threads_do(two_processors, monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.warns(RuntimeWarning, match="run in threads"), begun() as workers:
        assert {place for _, place in workers.each(asked_twice, [1.0, 2.0, 3.0])} == {os.getpid()}


@pytest.mark.slow
def test_processes_change_no_draw(two_processors, monkeypatch):
    problem = toy(sensors=6, sources=9, samples=7)
    options = {"chains": 3, "sweeps": 50, "warm": 10}
    processes = bi.infer("focal", problem, rng=np.random.default_rng(2), **options)
    monkeypatch.setattr(workers_of, "LONG", 1000)
    threads = bi.infer("focal", problem, rng=np.random.default_rng(2), **options)
    monkeypatch.setattr(workers_of, "thread_count", lambda: 1)
    alone = bi.infer("focal", problem, rng=np.random.default_rng(2), **options)
    for other in (threads, alone):
        assert np.array_equal(processes.mean, other.mean)
        assert np.array_equal(processes.hyper["noise"].draws, other.hyper["noise"].draws)
        assert processes.log_evidence == other.log_evidence
