"""A memory caches results: within bounds, computed once in all threads, and empty when pickled."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from referee import toy
from scipy.sparse import csc_matrix
from structured import scene

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.memory import Memory, PickledByFields, cached_property, size_of

WAIT = 20.0
"""s after which a test of threads gives up: far more than any takes."""


def block(kilobytes):
    return np.zeros(128 * kilobytes)


def together(*calls):
    """What calls give that run at the same time; an error if they wait for each other."""
    found, failed = [None] * len(calls), []

    def run(i, call):
        try:
            found[i] = call()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(i, call), daemon=True) for i, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not any(thread.is_alive() for thread in threads), "threads wait for each other"
    if failed:
        raise failed[0]
    return found


class TestRecall:
    def test_computes_an_entry_once(self):
        memory, made = Memory("test"), []
        for _ in range(3):
            assert memory.recall("one", 1, lambda: made.append(1) or len(made)) == 1
        assert memory.recall("one", 2, lambda: "two") == "two"
        assert memory.recall("other", 1, lambda: "three") == "three"
        memory.clear()
        assert (memory.size, memory.count("one")) == (0, 0)
        assert memory.recall("one", 1, lambda: "again") == "again"

    def test_stores_nothing_after_an_error(self):
        memory = Memory("test")
        with pytest.raises(ZeroDivisionError):
            memory.recall("one", 1, lambda: 1 / 0)
        assert memory.recall("one", 1, lambda: 5) == 5

    def test_none_is_a_value(self):
        memory, made = Memory("test"), []
        for _ in range(2):
            assert memory.recall("one", 1, lambda: made.append(1)) is None
        assert made == [1]

    def test_caches_a_functions_results_by_its_arguments(self):
        memory, calls = Memory("test"), []

        @memory.keep
        def double(x, times=2):
            """Doc."""
            calls.append(x)
            return times * x

        assert [double(2), double(2), double(2, times=3), double(3), double(2)] == [4, 4, 6, 6, 4]
        assert calls == [2, 2, 3]
        assert double.__doc__ == "Doc."


class TestBounds:
    def test_the_least_recently_used_is_evicted_first(self):
        memory = Memory("test", max_bytes=10 * 2**10, min_entry_bytes=1)
        for key in range(3):
            memory.recall("block", key, lambda: block(3))
        memory.recall("block", 0, lambda: pytest.fail("it was held"))
        memory.recall("block", 3, lambda: block(3))
        made = []
        for key in (0, 2, 3, 1):
            memory.recall("block", key, lambda key=key: made.append(key) or block(3))
        assert made == [1]
        assert memory.size <= memory.max_bytes

    def test_many_small_entries_do_not_evict_a_few_large_ones(self):
        memory = Memory("test", max_bytes=50 * 2**10, min_entry_bytes=1)
        memory.recall("large", 1, lambda: block(20))
        for key in range(500):
            memory.recall("small", key, lambda: block(1))
        memory.recall("large", 1, lambda: pytest.fail("it was evicted"))
        assert 25 <= memory.count("small") <= 30

    def test_the_entry_asked_for_last_stays_however_large(self):
        memory = Memory("test", max_bytes=2**10)
        memory.recall("block", 1, lambda: block(1))
        memory.recall("block", 2, lambda: block(9))
        assert memory.count("block") == 1
        memory.recall("block", 2, lambda: pytest.fail("it was held"))

    def test_entries_without_arrays_are_bounded_too(self):
        memory = Memory("test", max_bytes=100, min_entry_bytes=10)
        for key in range(1000):
            memory.recall("function", key, lambda: len)
        assert memory.count("function") == 10

    def test_an_entry_that_grows_is_measured_again(self):
        memory = Memory("test", min_entry_bytes=1)
        thing = memory.recall("thing", 1, lambda: Grown(block(1)))
        small = memory.size
        assert len(thing.twice) == 256
        memory.recall("thing", 2, lambda: Grown(block(1)))
        assert memory.size >= 2 * small + 2 * 2**10


@dataclass(frozen=True, eq=False)
class Grown(PickledByFields):
    table: np.ndarray

    @cached_property
    def twice(self):
        """Doc."""
        return np.concatenate([self.table, self.table])


@dataclass(frozen=True, eq=False)
class Owner:
    table: np.ndarray
    memory: Memory


class TestSize:
    def test_counts_every_array_once(self):
        one, two = block(1), block(2)
        sparse = csc_matrix(np.eye(4))
        inside = sparse.data.nbytes + sparse.indices.nbytes + sparse.indptr.nbytes
        assert size_of([one, {"a": (one, two)}, Grown(two), b"12345"]) == 3 * 2**10 + 5
        assert size_of(sparse) == inside
        assert size_of(("text", 3, None, len, Grown)) == 0

    def test_a_key_counts_too(self):
        memory = Memory("test", min_entry_bytes=1)
        memory.recall("one", (b"x" * 1000, 3), lambda: block(1))
        assert memory.size == 2**10 + 1000

    def test_of_circular_references(self):
        ring = [block(1)]
        ring.append(ring)
        assert size_of(ring) == 2**10

    def test_leaves_out_objects_with_a_memory(self):
        assert size_of((Owner(block(9), Memory("test")), block(1))) == 2**10
        problem = toy()
        spectrum = Spectrum.of(problem, None)
        assert size_of(spectrum) < problem.gain.nbytes + 2 * spectrum.values.nbytes + spectrum.to_components.nbytes

    def test_of_a_spectrum_of_which_another_thread_computes_more(self):
        """The other thread's turn comes while one array is measured, as it does once in many runs by chance."""
        spectrum = Spectrum.of(toy(), None)
        values = spectrum.values

        class Interrupted(np.ndarray):
            @property
            def nbytes(self):
                assert len(spectrum.to_components)
                assert "to_components" in vars(spectrum)
                return values.nbytes

        vars(spectrum).pop("to_components", None)
        vars(spectrum)["values"] = values.view(Interrupted)
        assert size_of(spectrum) >= values.nbytes

    def test_of_a_field_counts_its_factor(self):
        problem = scene()
        field = Structure(length=0.02).field(problem)
        assert size_of(field) > 8 * field.factor.nnz


class TestThreads:
    def test_one_entry_is_computed_once(self):
        memory, made, start = Memory("test"), [], threading.Barrier(8)

        def make():
            made.append(threading.get_ident())
            threading.Event().wait(0.05)
            return object()

        def call():
            start.wait(WAIT)
            return memory.recall("one", 1, make)

        found = together(*[call] * 8)
        assert len(made) == 1
        assert all(one is found[0] for one in found)

    def test_different_entries_are_computed_concurrently(self):
        memory, both = Memory("test"), threading.Barrier(2)
        assert together(*(lambda key=key: memory.recall("one", key, lambda: both.wait(WAIT)) for key in (1, 2)))

    def test_computing_one_entry_may_ask_for_another(self):
        memory, other = Memory("test"), Memory("other")

        def first():
            return memory.recall("one", 1, lambda: 1 + other.recall("two", 1, lambda: 2 + second()))

        def second():
            return memory.recall("three", 1, lambda: 3)

        assert together(first, second, lambda: other.recall("two", 1, lambda: 2 + second()), first) == [6, 3, 5, 6]

    def test_there_is_no_deadlock(self):
        """Each makes what the other wants while it asks for what the other makes."""
        one, two, both = Memory("one"), Memory("two"), threading.Barrier(2)

        def across(mine, theirs):
            def make():
                both.wait(WAIT)
                return 1 + theirs.recall("thing", 1, lambda: 10)

            return mine.recall("thing", 1, make)

        assert sorted(together(lambda: across(one, two), lambda: across(two, one)))[0] == 11

    def test_a_thread_that_waited_for_a_failed_computation_repeats_it(self):
        memory, begun, asked = Memory("test"), threading.Event(), threading.Event()

        def fail():
            begun.set()
            asked.wait(WAIT)
            threading.Event().wait(0.05)
            raise ValueError("not this time")

        def first():
            with pytest.raises(ValueError, match="not this time"):
                memory.recall("one", 1, fail)

        def second():
            begun.wait(WAIT)
            asked.set()
            return memory.recall("one", 1, lambda: 7)

        assert together(first, second)[1] == 7

    def test_a_cached_property_is_one_object_for_all(self):
        start, thing = threading.Barrier(4), Grown(block(64))

        def call():
            start.wait(WAIT)
            return thing.twice

        found = together(*[call] * 4)
        assert all(one is found[0] for one in found)
        assert Grown.twice.__doc__ == "Doc."

    def test_bounds_hold_with_many_threads(self):
        memory = Memory("test", max_bytes=20 * 2**10, min_entry_bytes=1)
        with ThreadPoolExecutor(8) as pool:
            sums = list(
                pool.map(lambda key: memory.recall("a", key % 40, lambda: block(1) + key % 40).sum(), range(400))
            )
        assert sums == [128 * (key % 40) for key in range(400)]
        assert memory.size <= memory.max_bytes


class TestTravel:
    def test_a_pickled_memory_is_empty(self):
        memory = Memory("test", max_bytes=12345, min_entry_bytes=7)
        memory.recall("one", 1, lambda: block(1))
        for other in (pickle.loads(pickle.dumps(memory)), copy.copy(memory), copy.deepcopy(memory)):
            assert (other.owner, other.max_bytes, other.min_entry_bytes, other.size) == ("test", 12345, 7, 0)

    @pytest.mark.parametrize("name", ["hierarchical", "depth_weighted", "smooth"])
    def test_a_pickled_problem_does_not_grow_with_use(self, name):
        problem = scene(samples=40, quiet=10)
        before = len(pickle.dumps(problem))
        posterior = bi.infer(name, problem, draws=100)
        posterior.sd  # noqa: B018  works something out
        assert problem.memory.size
        assert problem.shared.size
        assert len(pickle.dumps(problem)) <= before

    def test_pickled_dataclasses_leave_out_cached_properties(self):
        problem = scene(samples=40, quiet=10)
        posterior = bi.infer("depth_weighted", problem, draws=100)
        spectrum = Spectrum.of(problem, posterior.mixture.structures[0])
        sizes = [len(pickle.dumps(one)) for one in (posterior, spectrum)]
        mean, weights = posterior.mean, spectrum.weights
        for one, size in zip((posterior, spectrum), sizes, strict=True):
            assert len(pickle.dumps(one)) <= size
        other, twin = pickle.loads(pickle.dumps((posterior, spectrum)))
        assert set(vars(other)) <= set(type(other).__dataclass_fields__)
        assert_array_equal(other.mean, mean)
        assert_array_equal(other.sd, posterior.sd)
        assert_array_equal(twin.weights, weights)

    @pytest.mark.parametrize("name", ["depth_weighted", pytest.param("sensor_noise", marks=pytest.mark.slow)])
    def test_a_pickled_problem_gives_the_same_numbers(self, name):
        problem = scene(samples=40, quiet=10)
        first = bi.infer(name, problem, draws=100)
        for other in (pickle.loads(pickle.dumps(problem)), replace(problem)):
            assert other.shared is not problem.shared
            found = bi.infer(name, other, draws=100)
            assert_array_equal(found.mean, first.mean)
            assert_array_equal(found.sd, first.sd)
            assert float(found.log_evidence) == float(first.log_evidence)


class TestProblem:
    @pytest.mark.slow
    def test_another_gain_has_a_memory_of_its_own(self):
        problem, other = toy(quiet=5), toy(seed=1, quiet=5)
        bi.infer("depth_weighted", problem, draws=100)
        changed = replace(problem, gain=other.gain)
        fresh = bi.Problem(other.gain, problem.recording, problem.times, problem.baseline)
        assert_array_equal(changed.gain_powers, fresh.gain_powers)
        assert_array_equal(Structure().gram(changed), Structure().gram(fresh))
        assert_array_equal(
            bi.infer("depth_weighted", changed, draws=100).mean, bi.infer("depth_weighted", fresh, draws=100).mean
        )

    def test_results_of_the_gain_are_shared_and_those_of_the_recording_are_not(self):
        problem = scene()
        others = [
            problem.again(2 * problem.recording),
            problem.with_maps({"m": np.arange(32.0)}),
            problem.with_parcels(3),
        ]
        for other in others:
            assert other.shared is problem.shared
            assert other.memory is not problem.memory

    def test_noise_of_other_kinds_is_not_shared(self):
        """A diagonal covariance whitens alike whatever the kinds, but has other parts."""
        rng = np.random.default_rng(3)
        gain, recording = rng.normal(size=(4, 7)), rng.normal(size=(4, 3))
        one, two = (
            bi.Problem.from_arrays(gain, recording, np.ones(4), kinds=kinds)
            for kinds in (["mag", "mag", "grad", "grad"], ["mag", "grad", "grad", "grad"])
        )
        parts = one.noise_parts
        assert not two.share(one)
        assert not np.array_equal(two.noise_parts, parts)

    def test_numbers_do_not_depend_on_what_was_asked_before(self):
        """A fixed depth is worked out as it is, whether or not a table over depths was made of the same gain."""
        untouched, after = toy(quiet=5), toy(quiet=5)
        bi.infer("depth_weighted", after, draws=100)
        one = Structure(depth=0.3)
        assert_array_equal(Spectrum.of(untouched, one).values, Spectrum.of(after, one).values)
        assert_array_equal(one.gram(after), one.gram(after, exact=True))
