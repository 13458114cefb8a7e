"""The posterior of the peak's position, as plain numbers for the summary and the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesinv.posterior.maps import Maps
    from bayesinv.posterior.peak import Peak
    from bayesinv.posterior.posterior import Posterior

LEVEL = 0.9
DRAWS = 2000
"""Joint draws behind the peak."""


def peaks(posterior: Posterior, maps: tuple[Maps, Maps | None]) -> dict[str, Peak]:
    """Return posteriors of the peak's position by name: of cortical patches, if any, and of single sources."""
    single, regional = maps
    found = {"single sources": single.place(posterior.problem)}
    if regional is None:
        return found
    return {f"{1e3 * regional.radius:.0f} mm patches": regional.place(posterior.problem), **found}


def peak_facts(posterior: Posterior, peak: Peak) -> dict[str, Any]:
    """Return the most probable peak, the strongest mean and the credible radius about it; positions in mm."""
    sources = posterior.problem.sources
    facts: dict[str, Any] = {
        "source": peak.source,
        "probability": float(peak.probability.max()),
        "strongest_mean": peak.strongest,
        "window_s": list(peak.window),
        "draws": peak.draws,
        "level": LEVEL,
    }
    if sources is not None:
        positions = sources.positions if sources.mri_positions is None else sources.mri_positions
        facts["frame"] = "head" if sources.mri_positions is None else "MRI (surface RAS)"
        facts["position_mm"] = [round(1e3 * x, 2) for x in positions[peak.source].tolist()]
        facts["strongest_mean_position_mm"] = [round(1e3 * x, 2) for x in positions[peak.strongest].tolist()]
        facts["radius_mm"] = 1e3 * peak.radius(LEVEL)
        facts["probability_within_20_mm_of_strongest_mean"] = peak.within(0.02)
        if sources.hemispheres is not None:
            facts["hemisphere"] = ("left", "right")[int(sources.hemispheres[peak.source])]
            left = sources.hemispheres == 0
            facts["probability_left"] = float(peak.probability[left].sum())
    return facts
