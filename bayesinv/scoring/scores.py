"""All scores of one result, and those of many pooled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

from bayesinv.scoring.coverage import LEVELS
from bayesinv.scoring.focal import FocalScores
from bayesinv.scoring.tally import Tally


@dataclass(frozen=True)
class PeakScore:
    """The credible region of the peak against the truth's.

    inside : whether the region holds the source nearest to the truth's peak
    probability : that the peak lies at that source
    size : sources in the region
    radius : of the ball about the strongest source that holds the peak with the region's probability, m
    """

    inside: bool
    probability: float
    size: int
    radius: float


@dataclass(frozen=True, eq=False)
class Scores:
    """All scores of one result whose truth is known.

    name : of model or method
    level : of the intervals
    time : s, at which maps are compared: where the truth is strongest inside the window
    peak_error, centre_error, deviation, earth_movers_distance : m; nan where the map is zero
    area_under_curve, average_precision : nan where all sources are active, or none
    map_correlation : of map and truth on the grid at that time; of magnitudes with free orientation
    course_correlation : the same over time at each active source, averaged with the truth's power for weight
    strata : probabilistic scores per stratum, or None where the result has no intervals: "all", "active", "inactive",
        and "depth 1" (shallow) to "depth 4", quartiles of the sources
    peak, regions, contrasts : of the peak's credible region and of linear functionals, where there are any
    currents : of the sum of all currents around each dipole or patch of the truth, where it has such
    foci : of focal sources, where both model and truth have such
    """

    name: str
    level: float
    time: float
    peak_error: float
    centre_error: float
    deviation: float
    earth_movers_distance: float
    area_under_curve: float
    average_precision: float
    map_correlation: float
    course_correlation: float
    strata: Mapping[str, Tally] | None = field(default=None, repr=False)
    peak: PeakScore | None = None
    regions: Tally | None = field(default=None, repr=False)
    contrasts: Tally | None = field(default=None, repr=False)
    currents: Tally | None = field(default=None, repr=False)
    foci: FocalScores | None = field(default=None, repr=False)

    @property
    def tallies(self) -> Mapping[str, Tally]:
        """All tallies by name: the strata, "regions", "contrasts" and "currents", as far as there are any."""
        more = {"regions": self.regions, "contrasts": self.contrasts, "currents": self.currents}
        return {**(self.strata or {}), **{name: tally for name, tally in more.items() if tally is not None}}

    def row(self) -> dict[str, float | str]:
        """One flat row of plain numbers: point scores, then "stratum: score" of every tally."""
        plain = [part.name for part in fields(self) if part.type in ("str", "float")]
        out: dict[str, float | str] = {name: getattr(self, name) for name in plain}
        if self.peak is not None:
            out |= {f"peak_region_{part.name}": float(getattr(self.peak, part.name)) for part in fields(self.peak)}
        for stratum, tally in self.tallies.items():
            out |= {f"{stratum}: {name}": value for name, value in tally.row().items()}
        if self.foci is not None:
            out |= {f"foci: {name}": value for name, value in self.foci.row().items()}
        return out

    def curves(self) -> list[dict[str, float | str]]:
        """Coverage curves as a long table, with counts, so that those of many runs can be pooled."""
        return [
            {
                "stratum": stratum,
                "kind": kind,
                "level": float(level),
                "coverage": float(share),
                "count": histogram.count,
            }
            for stratum, tally in self.tallies.items()
            for kind, histogram in (("pointwise", tally.pit), ("aggregated", tally.aggregated))
            for level, share in zip(LEVELS, histogram.coverage(), strict=True)
        ]


def pool(runs: Iterable[Scores]) -> dict[str, Tally]:
    """Return the tallies of several runs, pooled by name.

    Raises
    ------
    ValueError
        If intervals have different levels.
    """
    out: dict[str, Tally] = {}
    for scores in runs:
        for name, tally in scores.tallies.items():
            out[name] = out[name] + tally if name in out else tally
    return out
