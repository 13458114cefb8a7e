"""Results of an evaluation: tables, coverage curves, rankings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import one_of
from bayesinv.evaluation.cell import CRIME, Result
from bayesinv.evaluation.configuration import Configuration
from bayesinv.scoring.coverage import LEVELS
from bayesinv.scoring.tally import Tally
from bayesinv.wording import percent

if TYPE_CHECKING:
    import pandas as pd


PREFIX = "inverse-crime-"
"""Prefix of every file of an evaluation in which the inversion uses the truth's own lead field."""

LARGER_IS_BETTER = ("area_under_curve", "average_precision", "map_correlation", "course_correlation")
"""Point scores without a unit, of which larger ones are better."""

SMALLER_IS_BETTER = ("peak_error", "centre_error", "deviation", "earth_movers_distance")

LOCALISATION = ("peak_error", "earth_movers_distance", "deviation", "area_under_curve")
STRATA = ("all", "active", "inactive", "regions", "active regions", "currents")

YARDSTICK = "hierarchical"
"""Method that the continuous ranked probability scores of all others are given relative to, where it was run."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of every method on every truth.

    configuration : of the run
    results : one per cell
    failures : messages of the cells that raised
    """

    configuration: Configuration
    results: list[Result] = field(repr=False)
    failures: tuple[str, ...] = ()

    @property
    def crime(self) -> bool:
        """Whether some inversion used the truth's own lead field."""
        return any(one.crime for one in self.results)

    @property
    def table(self) -> pd.DataFrame:
        """One row per cell; "inverse crime" is a column."""
        import pandas as pd

        rows = []
        for one in self.results:
            identity = {**asdict(one.cell), "method": one.cell.name, CRIME: one.crime, "power snr": one.snr}
            rows.append({**identity, "seconds": one.seconds, **one.row, "unsure": "; ".join(one.unsure)})
        return pd.DataFrame(rows)

    def pooled(self) -> dict[tuple[str, str, float, str], dict[str, Tally]]:
        """Tallies by (truth, how, loud, method), pooled over seeds."""
        out: dict[tuple[str, str, float, str], dict[str, Tally]] = {}
        for one in self.results:
            group = out.setdefault((one.cell.truth, one.cell.how, one.cell.loud, one.cell.name), {})
            _pool(group, one.tallies)
        return out

    @property
    def summary(self) -> pd.DataFrame:
        """One row per truth, noise and method: means of point scores, and calibration pooled over seeds.

        Currents in A m, distances in m; nan where a method has no intervals. "currents" are sums of all currents around
        each dipole or patch of the truth. Coverage has its Monte Carlo standard error, "± coverage", by what cells
        differ. "crps ratio" is to that of `YARDSTICK` on the same truths.
        """
        import pandas as pd

        pools, rows = self.pooled(), []
        for (truth, how, loud, method), tallies in pools.items():
            group = [
                one
                for one in self.results
                if (one.cell.truth, one.cell.how, one.cell.loud, one.cell.name) == (truth, how, loud, method)
            ]
            row: dict[str, Any] = {"truth": truth, how if how != "drawn" else "snr": loud or np.nan, "method": method}
            row |= {CRIME: any(one.crime for one in group), "cells": len(group)}
            row |= {name: _mean([one.row[name] for one in group]) for name in LOCALISATION}
            for stratum in STRATA:
                plain = tallies[stratum].row() if stratum in tallies else {}
                for name in ("coverage", "crps", "interval_score", "log_score", "mad", "aggregated_mad", "brier"):
                    row[f"{stratum}: {name}"] = plain.get(name, np.nan)
                own = [one.tallies[stratum] for one in group if stratum in one.tallies]
                row[f"{stratum}: ± coverage"] = error_of_share([one.inside for one in own], [one.count for one in own])
                yardstick = pools.get((truth, how, loud, YARDSTICK), {}).get(stratum)
                row[f"{stratum}: crps ratio"] = np.nan
                if yardstick is not None and stratum in tallies:
                    row[f"{stratum}: crps ratio"] = plain["crps"] / yardstick.row()["crps"]
            foci = [one.foci for one in group if one.foci is not None]
            if foci:
                row |= {f"foci: {name}": value for name, value in sum(foci[1:], foci[0]).row().items()}
                for name, of in FOUND_SHARES.items():
                    counts = [(getattr(one, name), getattr(one, of)) for one in foci]
                    row[f"foci: ± {name}"] = error_of_share(*zip(*counts, strict=True))
            row["seconds"] = _mean([one.seconds for one in group])
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def curves(self) -> pd.DataFrame:
        """Coverage at every level, pooled over seeds: a long table."""
        import pandas as pd

        rows = [
            {
                "truth": truth,
                "how": how,
                "loud": loud or np.nan,
                "method": method,
                CRIME: self.crime,
                "stratum": stratum,
                "kind": kind,
                "level": float(level),
                "coverage": float(share),
                "count": pit.count,
            }
            for (truth, how, loud, method), tallies in self.pooled().items()
            for stratum, tally in tallies.items()
            for kind, pit in (("pointwise", tally.pit), ("aggregated", tally.aggregated))
            for level, share in zip(LEVELS, pit.coverage(), strict=True)
        ]
        return pd.DataFrame(rows)

    def ranking(self, by: str = "area_under_curve") -> pd.Series:
        """Return the mean of a point score by method over all cells, the best first.

        Raises
        ------
        ValueError
            If there is no such score.
        """
        one_of("score", by, (*LARGER_IS_BETTER, *SMALLER_IS_BETTER))
        return self.table.groupby("method")[by].mean().sort_values(ascending=by in SMALLER_IS_BETTER)

    @property
    def page(self) -> str:
        """File name of the report, with a prefix for an inverse crime."""
        return f"{PREFIX if self.crime else ''}report.html"

    def cells_for_people(self, narrow: bool = False) -> tuple[list[str], list[tuple[str, ...]]]:
        """Return the summary as column heads and rows of text: mm, nA m, per cent.

        narrow : whether to leave out standard errors and what else a terminal is too narrow for
        """
        table = self.summary
        loud = [name for name in ("snr", "alpha") if name in table and table[name].notna().any()]
        columns: list[tuple[str, str, float, str]] = [(name, name, 1.0, "{:g}") for name in loud]
        columns += [("peak off, mm", "peak_error", 1e3, "{:.0f}"), ("EMD, mm", "earth_movers_distance", 1e3, "{:.0f}")]
        columns += [("AUC", "area_under_curve", 1.0, "{:.2f}")]
        level = percent(self.configuration.level)
        for name in STRATA[1 : -1 if narrow else None]:
            columns += [(f"{level} covers, {name}", f"{name}: coverage", 100.0, "{:.1f}")]
            columns += [] if narrow else [("±", f"{name}: ± coverage", 100.0, "{:.1f}")]
        columns += [(f"CRPS {name}, nA·m", f"{name}: crps", 1e9, "{:.3g}") for name in ("active", "all")]
        if not narrow:
            columns += [(f"CRPS {name} / {YARDSTICK}", f"{name}: crps ratio", 1.0, "{:.2f}") for name in STRATA[1:3]]
        columns += [("MAD", "all: mad", 1.0, "{:.4f}"), ("MAD aggregated", "all: aggregated_mad", 1.0, "{:.4f}")]
        columns += [("s", "seconds", 1.0, "{:.2f}")]
        return _for_people(table, columns)

    def foci_for_people(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """Return scores of focal sources as column heads and rows of text; no rows where no method has any."""
        table = self.summary
        if "foci: found" not in table:
            return [], []
        level = percent(self.configuration.level)
        columns = [
            ("parts of truths", "foci: parts", 1.0, "{:.0f}"),
            ("found", "foci: found", 1.0, "{:.0f}"),
            ("missed, %", "foci: missed", 100.0, "{:.0f}"),
            ("false, %", "foci: false", 100.0, "{:.0f}"),
            (f"place in {level} set, %", "foci: place in set", 100.0, "{:.0f}"),
            ("±", "foci: ± in_set", 100.0, "{:.0f}"),
            (f"place in {level} ball, %", "foci: place in ball", 100.0, "{:.0f}"),
            (f"current in {level} interval, %", "foci: current inside", 100.0, "{:.0f}"),
            ("±", "foci: ± current_inside", 100.0, "{:.0f}"),
            ("current / true", "foci: amplitude", 1.0, "{:.2f}"),
            ("inclusion off, places", "foci: places: calibration error", 1.0, "{:.4f}"),
            ("inclusion off, regions", "foci: regions: calibration error", 1.0, "{:.3f}"),
            ("Brier, regions", "foci: regions: brier", 1.0, "{:.3f}"),
            ("log score, regions", "foci: regions: log score", 1.0, "{:.3f}"),
        ]
        return _for_people(table[table["foci: found"].notna()], columns)

    @property
    def methods(self) -> list[str]:
        """Methods by name, in the order of the matrix."""
        return list(dict.fromkeys(one.cell.name for one in self.results))

    @property
    def truths(self) -> list[str]:
        """Truths by name, in the order of the matrix."""
        return list(dict.fromkeys(one.cell.truth for one in self.results))

    def by_truth(self, truth: str) -> dict[str, dict[str, Tally]]:
        """Return the tallies of a truth by method, pooled over seeds and noise levels."""
        out: dict[str, dict[str, Tally]] = {}
        for (name, _, _, method), tallies in self.pooled().items():
            if name == truth and tallies:
                group = out.setdefault(method, {})
                _pool(group, tallies)
        return out


FOUND_SHARES = {"in_set": "found", "in_ball": "found", "current_inside": "near"}
"""Counts of focal sources, and what they are shares of."""


def error_of_share(counts: Sequence[float], numbers: Sequence[float]) -> float:
    """Return the standard error of the share Σ count / Σ number, by what it is in cells, which are independent.

    nan where fewer than two cells have any.

    Reference: Cochran (1977), Sampling Techniques, §2.11 (ratio estimate).
    """
    count, number = np.array(counts, dtype=np.float64), np.array(numbers, dtype=np.float64)
    cells = int(np.count_nonzero(number))
    if cells < 2:
        return np.nan
    left = count - number * count.sum() / number.sum()
    return float(np.sqrt(cells / (cells - 1) * np.sum(left**2)) / number.sum())


def _for_people(
    table: pd.DataFrame, columns: Sequence[tuple[str, str, float, str]]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Column heads and rows of text.

    columns : head, column of the table, what it is multiplied by, and how it is written
    """
    rows = []
    for _, row in table.iterrows():
        cells = [
            "–" if row[name] is None or np.isnan(row[name]) else form.format(factor * row[name])
            for _, name, factor, form in columns
        ]
        rows.append((row["truth"], row["method"], *cells))
    return ["truth", "method", *(head for head, *_ in columns)], rows


def _pool(group: dict[str, Tally], tallies: Mapping[str, Tally]) -> None:
    """Add tallies to those of a group, stratum by stratum."""
    for stratum, tally in tallies.items():
        group[stratum] = group[stratum] + tally if stratum in group else tally


def _mean(values: Iterable[Any]) -> float:
    """Return the mean of the finite numbers among some values, nan where there are none."""
    numbers = [float(value) for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(numbers)) if numbers else np.nan
