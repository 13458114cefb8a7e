"""Spherical splines through potentials at electrodes: how far each is from what the others say.

    u(r) = c₀ + Σ_j c_j g(r · r_j),   Σ_j c_j = 0,   g(x) = Σ_n (2 n + 1) / (4 π (n (n + 1))⁴) P_n(x)

An electrode that was interpolated from the others lies on their spline, so that the spline through all of them has no
coefficient there, whatever the others measure.

Reference: Perrin, Pernier, Bertrand & Echallier (1989), Electroencephalogr. Clin. Neurophysiol. 72, 184-187.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial.legendre import legval

from bayesinv.axes import Array

TERMS = 50
"""Legendre polynomials of the series, as is usual; coefficients fall with the seventh power."""

STIFFNESS = 4

SMOOTHING = 1e-5
"""What is added to the diagonal of the kernel, as is usual."""


def off_spline(places: Array) -> Array:
    """Return the matrix (electrode, electrode) from potentials to what they differ by from the others' spline.

    places : (electrode, 3), about the centre of the head; their distance from it does not matter
    """
    count = len(places)
    directions = places / np.linalg.norm(places, axis=1, keepdims=True)
    orders = np.arange(1, TERMS + 1)
    series = (2 * orders + 1) / (4 * np.pi * (orders * (orders + 1.0)) ** STIFFNESS)
    kernel = legval(np.clip(directions @ directions.T, -1, 1), np.append(0.0, series)) + SMOOTHING * np.eye(count)
    system = np.block([[kernel, np.ones((count, 1))], [np.ones((1, count)), np.zeros((1, 1))]])
    coefficients = np.linalg.inv(system)[:count, :count]
    # Each divided by its own diagonal is the residual at an electrode of the spline through the others.
    return np.asarray(coefficients / np.diag(coefficients)[:, None])
