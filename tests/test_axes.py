import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bayesinv.axes import freeze, one_of, real, same_axes


class TestReal:
    def test_gives_float64_of_the_same_numbers(self):
        found = real("gain", [[1, 2], [3, 4], [5, 6]], "sensor source")
        assert found.dtype == np.float64
        assert_array_equal(found, [[1, 2], [3, 4], [5, 6]])

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_refuses_what_is_not_finite_and_counts_it(self, bad):
        value = np.ones((3, 4))
        value[1, 2] = value[0, 0] = bad
        with pytest.raises(ValueError, match=r"recording holds 2 NaN or infinite values of 12; mend or drop"):
            real("recording", value, "sensor time")

    def test_an_axis_that_is_a_digit_has_that_length(self):
        with pytest.raises(ValueError, match=r"positions has shape \(5, 2\), but its axes are \(source, 3\)"):
            real("positions", np.ones((5, 2)), "source 3")

    def test_names_the_axes_it_wants(self):
        with pytest.raises(ValueError, match=r"gain has shape \(3,\), but wants 2 axes: \(sensor, source\)"):
            real("gain", np.ones(3), "sensor source")

    @pytest.mark.parametrize("value", ["text", [object()], np.ones(3) * 1j, [1j, 2.0]])
    def test_refuses_what_is_not_real(self, value):
        with pytest.raises(ValueError, match="times must be an array of real numbers, but"):
            real("times", value, "time")

    def test_freezing_leaves_the_callers_array_writeable(self):
        mine = np.ones(3)
        noun = real("times", mine, "time")
        freeze(noun, None)
        assert not noun.flags.writeable
        assert mine.flags.writeable


class TestSameAxes:
    def test_arrays_that_agree_pass(self):
        same_axes(gain=(np.ones((3, 5)), "sensor source"), recording=(np.ones((3, 2)), "sensor time"))

    def test_says_who_disagrees_with_whom(self):
        with pytest.raises(ValueError, match="recording has sensor = 3, but gain has sensor = 4"):
            same_axes(gain=(np.ones((4, 6)), "sensor source"), recording=(np.ones((3, 2)), "sensor time"))

    def test_a_digit_is_a_length(self):
        same_axes(positions=(np.ones((4, 3)), "source 3"))
        with pytest.raises(ValueError, match=r"positions has shape \(4, 2\), but its axes are \(source, 3\)"):
            same_axes(positions=(np.ones((4, 2)), "source 3"))

    def test_one_array_may_disagree_with_itself(self):
        with pytest.raises(ValueError, match="covariance has sensor = 3, but covariance has sensor = 2"):
            same_axes(covariance=(np.ones((2, 3)), "sensor sensor"))

    def test_the_number_of_axes_counts(self):
        with pytest.raises(ValueError, match=r"wants 2 axes: \(sensor, time\)"):
            same_axes(recording=(np.ones(2), "sensor time"))


class TestOneOf:
    def test_gives_back_what_is_known(self):
        assert one_of("model", "b", ["b", "a"]) == "b"

    def test_suggests_the_nearest_and_lists_all(self):
        with pytest.raises(
            ValueError, match=r"no model named 'horsehoe': did you mean 'horseshoe'\? There are flat, horseshoe"
        ):
            one_of("model", "horsehoe", ["horseshoe", "flat"])

    def test_suggests_nothing_where_nothing_is_near(self):
        with pytest.raises(ValueError, match=r"no model named 'zzz'; there are flat, horseshoe$"):
            one_of("model", "zzz", ["horseshoe", "flat"])
