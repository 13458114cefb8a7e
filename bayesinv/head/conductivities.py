"""Ranges of conductivities in the literature, and random draws from them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bayesinv.head.head import Conductivity

RANGES: dict[str, tuple[float, float]] = {
    # Weighted means of white and of grey matter: McCann, Pisano & Beltrachini (2019), Brain Topogr. 32, 825-858.
    "brain": (0.22, 0.47),
    # From McCann et al. to Baumann et al. (1997), IEEE Trans. Biomed. Eng. 44, 220-223, at body temperature.
    "CSF": (1.71, 1.79),
    # From the classical eightieth of the brain's, as in Wolters et al. (2006), NeuroImage 30, 813-826, to beyond the
    # weighted mean 0.02 of McCann et al.
    "skull": (0.004, 0.03),
    # Vorwerk et al. (2019), Front. Neurosci. 13, 531.
    "scalp": (0.28, 0.87),
}
"""Lowest and highest conductivity in S/m."""

ANISOTROPY = (1.0, 3.0)
"""Tangential over radial conductivity of the skull. Ten was usual; layers of bone fit into one compartment with
considerably less (Dannhauer et al. 2011, Hum. Brain Mapp. 32, 1383-1399)."""


def draw_conductivities(
    rng: np.random.Generator,
    ranges: Mapping[str, tuple[float, float]] = RANGES,
    anisotropy: tuple[float, float] | None = ANISOTROPY,
) -> dict[str, Conductivity]:
    """Return conductivities in S/m of some compartments, each log-uniform between two bounds.

    ranges : from a compartment to its lowest and highest conductivity, S/m
    anisotropy : lowest and highest ratio a of the skull's tangential to its radial conductivity, drawn log-uniformly;
        None leaves the skull isotropic. The volume of the conductivity ellipsoid is constant (Wolters et al. 2006):

            radial = σ a^(-2/3),   tangential = σ a^(1/3)

    Raises
    ------
    ValueError
        If a range is not positive or ends before it begins.
    """
    for name, (low, high) in {**ranges, **({} if anisotropy is None else {"anisotropy": anisotropy})}.items():
        if not 0 < low <= high < np.inf:
            raise ValueError(f"the range of {name} is {low} to {high}, but wants 0 < lowest ≤ highest")

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    drawn: dict[str, Conductivity] = {name: log_uniform(*bounds) for name, bounds in ranges.items()}
    if anisotropy is not None and "skull" in drawn:
        size, ratio = float(np.mean(drawn["skull"])), log_uniform(*anisotropy)
        drawn["skull"] = (size * ratio ** (-2 / 3), size * ratio ** (1 / 3))
    return drawn
