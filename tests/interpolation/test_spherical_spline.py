"""What lies on a spline through the other electrodes differs from it by nothing."""

from __future__ import annotations

import mne
import numpy as np
from numpy.testing import assert_allclose

from bayesinv.interpolation.spherical_spline import off_spline


def test_residuals_are_those_of_interpolation_by_mne():
    """MNE-Python's interpolation of each electrode from all others, one at a time."""
    montage = mne.channels.make_standard_montage("colin27_1020")
    names = montage.ch_names[:29]
    info = mne.create_info(names, 100.0, "eeg").set_montage(montage)
    places = np.array([channel["loc"][:3] for channel in info["chs"]])
    centre = mne.bem.fit_sphere_to_headshape(info, units="m", verbose="ERROR")[1]
    found = off_spline(places - centre)
    for i, name in enumerate(names):
        info["bads"] = [name]
        by_mne = mne.EvokedArray(np.eye(29), info, verbose="ERROR").interpolate_bads(verbose="ERROR").data
        assert_allclose(found[i], np.eye(29)[i] - by_mne[i], atol=1e-8)
