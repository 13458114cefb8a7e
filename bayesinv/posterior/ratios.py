"""A few ratios of the currents' variance to the noise's that stand for those of many nodes.

Filters are analytic in the logarithm of the ratio, within π of the real axis. Rules of n points converge as ρ^(-2n) and
polynomials through n points as ρ^-n, where the ellipse with the nodes' range between its foci that ends there has axes
of sum ρ times half that range.

Reference: Trefethen (2019), Approximation Theory and Approximation Practice, theorems 8.2 and 19.3.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial.chebyshev import chebvander

from bayesinv.axes import Array
from bayesinv.interpolation.gauss_rules import gauss_rule

RULE_ERROR = 1e-12
"""Error of a rule or polynomial, relative to the largest filter in its ellipse."""


def gauss_ratios(ratios: Array, mass: Array) -> tuple[Array, Array]:
    """Return weights (point,) and ratios (point,) that integrate filters as nodes do with some mass (node,)."""
    if not (ratios.all() and mass.any()):
        return mass, ratios
    logs = np.log(ratios)
    count = _count(logs, 2)
    if count >= len(ratios):
        return mass, ratios
    points, shares = gauss_rule(logs, mass, count)
    return shares * float(mass.sum()), np.exp(points)


def chebyshev_ratios(ratios: Array) -> tuple[Array, Array]:
    """Return the weights (node, point) of filters at a few ratios (point,) in those of the nodes."""
    if not ratios.all():
        return np.eye(len(ratios)), ratios
    logs = np.log(ratios)
    count = _count(logs, 1)
    if count >= len(ratios):
        return np.eye(len(ratios)), ratios
    low, high = float(logs.min()), float(logs.max())
    points = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    at_nodes = chebvander((2 * logs - low - high) / max(high - low, 1e-9), count - 1)
    at_nodes[:, 0] *= 0.5
    table = 2 / count * at_nodes @ chebvander(points, count - 1).T
    return table, np.exp(0.5 * (low + high + (high - low) * points))


def _count(logs: Array, order: int) -> int:
    """Points for a convergence as ρ^(-order n)."""
    reach = 2 * np.pi / max(float(np.ptp(logs)), 1e-9)
    return int(np.ceil(np.log(1 / RULE_ERROR) / (order * np.arcsinh(reach))))
