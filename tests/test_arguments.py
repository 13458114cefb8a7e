"""What public functions say of arguments that are something else."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from referee import toy

import bayesinv as bi
from bayesinv.arguments import count_of, generator_of, number_of, of_type, path_of


@pytest.fixture(scope="module")
def problem():
    return toy()


@pytest.fixture(scope="module")
def posterior(problem):
    return bi.infer("hierarchical", problem)


class TestRandomness:
    def test_a_seed_stands_for_its_generator(self, posterior):
        for seed in (7, np.int32(7)):
            assert_array_equal(posterior.draw(3, seed), posterior.draw(3, np.random.default_rng(7)))
        assert_array_equal(posterior.draw(3, None), posterior.draw(3, 0))
        assert posterior.peak(draws=9, rng=4).source == posterior.peak(draws=9, rng=np.random.default_rng(4)).source

    def test_of_chains_too(self, problem):
        one, other = (bi.infer("hierarchical", problem, rng=rng) for rng in (7, np.random.default_rng(7)))
        assert_array_equal(one.hyper["scale"].draws, other.hyper["scale"].draws)

    @pytest.mark.parametrize("rng", ["a", -1, 1.5, True, np.random.RandomState(0)])
    def test_anything_else_is_refused(self, posterior, rng):
        with pytest.raises(ValueError, match=r"^rng is .*, but wants a numpy.random.Generator, a seed"):
            posterior.draw(2, rng)
        with pytest.raises(ValueError, match="rng"):
            bi.infer("hierarchical", posterior.problem, rng=rng)

    def test_a_generator_goes_on(self):
        rng = np.random.default_rng(1)
        assert generator_of(rng) is rng


class TestNumbers:
    @pytest.mark.parametrize("count", [1.5, "3", True, None])
    def test_counts_are_whole(self, posterior, count):
        for call in (
            lambda: posterior.draw(count, 0),
            lambda: posterior.peak(draws=count),
            lambda: bi.prior_predictive("hierarchical", posterior.problem, draws=count),
            lambda: bi.posterior_predictive(posterior, draws=count),
            lambda: bi.sbc("hierarchical", posterior.problem, 2, draws=count),
            lambda: bi.compare({"one": posterior}, draws=count),
        ):
            with pytest.raises(ValueError, match="but wants a whole number of at least 1"):
                call()

    def test_and_positive(self):
        with pytest.raises(ValueError, match="draws is 0, but at least one draw is wanted"):
            count_of("draws", 0)
        assert count_of("draws", np.int64(4)) == 4

    @pytest.mark.parametrize("level", ["0.9", True, None, np.nan, 90, 0, 1])
    def test_levels_are_probabilities(self, posterior, level):
        with pytest.raises(ValueError, match=r"level is .*, but must be a probability between 0 and 1, such as 0\.9"):
            posterior.interval(level)

    @pytest.mark.parametrize("threshold", ["1e-9", np.nan, np.inf, -1e-9])
    def test_thresholds_are_currents(self, posterior, threshold):
        with pytest.raises(ValueError, match=r"threshold is .*, but must be a finite current of at least 0 A m"):
            posterior.exceedance(threshold)

    def test_numbers_of_any_kind_are_numbers(self):
        assert number_of("level", np.float32(0.5), "a level") == 0.5


class TestKinds:
    def test_what_is_no_problem_is_refused_where_it_comes(self, posterior):
        for call in (
            lambda: bi.infer("hierarchical", None),
            lambda: bi.infer("hierarchical", posterior),
            lambda: bi.baseline(posterior, "MNE"),
            lambda: bi.tikhonov(posterior),
            lambda: bi.prior_predictive("hierarchical", posterior),
        ):
            with pytest.raises(ValueError, match=r"^problem is of type .*, but wants a Problem; from_mne or Problem"):
                call()

    def test_what_is_no_mapping_or_list_is_refused(self, posterior):
        for call in (lambda: bi.compare([posterior]), lambda: bi.compare(posterior), lambda: bi.average([posterior])):
            with pytest.raises(ValueError, match="give a dictionary of names to posteriors"):
                call()
        with pytest.raises(ValueError, match=r"problems is of type Problem, .* give a list of problems"):
            bi.infer_many("hierarchical", posterior.problem)

    def test_paths_are_paths(self, posterior, tmp_path):
        for call in (lambda: bi.load(3), lambda: posterior.save(None), lambda: bi.evaluate(3, tmp_path)):
            with pytest.raises(ValueError, match="but wants a str or PathLike; give the path"):
                call()
        assert path_of("path", str(tmp_path)) == tmp_path
        with pytest.raises(ValueError, match="one is of type int, but wants a str; say it"):
            of_type("one", 1, str, "say it")


class TestArrays:
    @pytest.mark.parametrize(
        ("gain", "words"),
        [
            (np.ones((3, 4), dtype=bool), "but it holds truth values"),
            ([["1", "2"]] * 3, "but it holds text"),
            (np.array([[1, 2, "3"]] * 3, dtype=object), "but it holds text"),
            (np.array([["2020"]] * 3, dtype="M8[Y]"), "but it holds dates or times"),
            (np.ma.masked_array(np.ones((3, 4)), mask=np.eye(3, 4)), "gain has a mask that hides 3 of 12 values"),
            ([[1, 2], [3]], "gain must be an array of real numbers"),
        ],
    )
    def test_what_holds_no_numbers_is_refused(self, gain, words):
        with pytest.raises(ValueError, match=words):
            bi.Problem.from_arrays(gain, np.ones((3, 2)))

    def test_a_mask_that_hides_nothing_does_no_harm(self, rng):
        gain = rng.standard_normal((3, 4))
        given = np.ma.masked_array(gain, mask=False)
        assert_array_equal(bi.Problem.from_arrays(given, np.ones((3, 2))).gain, gain)

    def test_a_problem_keeps_what_it_was_given(self, rng):
        gain, recording = rng.standard_normal((3, 4)), rng.standard_normal((3, 2))
        baseline, times = rng.standard_normal((3, 5)), np.array([0.1, 0.2])
        kept = [one.copy() for one in (gain, recording, baseline, times)]
        problems = [
            bi.Problem.from_arrays(gain, recording, times=times, baseline=baseline),
            bi.Problem(gain, recording, times, baseline),
        ]
        problems.append(problems[0].again(recording, baseline=baseline))
        for one in (gain, recording, baseline, times):
            one[:] = 9
        for problem in problems:
            for name, wanted in zip(("gain", "recording", "baseline", "times"), kept, strict=True):
                assert_array_equal(getattr(problem, name), wanted)

    def test_a_region_names_a_source_once(self, posterior):
        with pytest.raises(ValueError, match="region 'a' names source 2 more than once"):
            posterior.region({"a": [1, 2, 2]})
