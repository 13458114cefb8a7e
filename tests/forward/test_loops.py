"""Compiled loops give the same whether their turns are taken one after another or side by side."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from forward_laws import both, coils, electrodes, sources
from numpy.testing import assert_allclose

SCRIPT = """
import sys
import numba
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_loops import results
assert numba.get_num_threads() == 2
np.savez(sys.argv[1], **results())
"""


def results():
    """What every loop that may run side by side gives, of more turns than there are threads."""
    from bayesinv.forward import bem, sphere, unbounded
    from bayesinv.geometry.icosphere import geodesic_sphere
    from bayesinv.geometry.surfaces import Surface, crossings, inside, nearest
    from bayesinv.head.head import Head

    ball = geodesic_sphere(4)
    shells = [Surface(radius * ball.vertices, ball.triangles) for radius in (0.080, 0.092)]
    other = Surface(0.085 * ball.vertices + [0.01, 0.0, 0.0], ball.triangles)
    sensors, dipoles = both(electrodes(), coils()), sources(0.6)
    names = ("brain", "scalp")
    triangle, weights, distance = nearest(shells[0], sensors.positions)
    return {
        "series": sphere.lead_field(Head(names, (0.33, 0.1), radii=(0.080, 0.092)), sensors, dipoles).gain,
        "closed form": sphere.lead_field(Head(("all",), (0.33,), radii=(0.092,)), sensors, dipoles).gain,
        "unbounded": unbounded.lead_field(0.33, sensors, dipoles).gain,
        "bem": bem.lead_field(Head(names, (0.33, 0.1), tuple(shells)), sensors, dipoles).gain,
        "triangle": triangle,
        "weights": weights,
        "distance": distance,
        "inside": inside(shells[0], np.vstack([dipoles.positions, sensors.positions])),
        "crossings": np.array(crossings(shells[0], other)),
    }


@pytest.mark.slow
def test_they_do(tmp_path):
    path, here = tmp_path / "side-by-side.npz", os.path.dirname(__file__)
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2", "PYTHONPATH": os.path.dirname(here)}
    subprocess.run([sys.executable, "-c", SCRIPT, path, here], env=environment, check=True, timeout=300)
    wanted = results()
    with np.load(path) as found:
        assert set(found.files) == set(wanted)
        for name in wanted:
            tolerance = 1e-12 * np.abs(wanted[name]).max()
            assert_allclose(found[name], wanted[name], rtol=1e-12, atol=tolerance, err_msg=name)
    assert wanted["crossings"] > 0
