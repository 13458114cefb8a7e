"""The mean of a baseline against its sampling error, on noise of known correlation."""

import numpy as np
import pytest
from coloured import ar

from bayesinv.problem.plausibility import offset_of


@pytest.mark.parametrize(("correlation", "count"), [(0.65, 15), (0.8, 30), (0.9, 60)])
def test_the_mean_of_coloured_noise_is_no_offset(correlation, count):
    runs, components = 60, 58
    noise = ar([correlation], (runs * components, count), np.random.default_rng(0)).reshape(runs, components, count)
    found = [offset_of(one) for one in noise]
    # Of mean squares over 58 components the errors scatter by a fifth; the correlation is estimated from few samples.
    assert np.mean([one.errors for one in found]) == pytest.approx(1, abs=0.25)
    assert not any(one.significant for one in found)
    sd = 1 / np.sqrt(1 - correlation**2)
    assert np.mean([offset_of(one + sd).significant for one in noise]) > 0.9
