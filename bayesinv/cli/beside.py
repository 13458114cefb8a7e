"""Answers beside focal sources: distributed currents, classical maps, and which of the two the recording prefers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

import bayesinv
from bayesinv.axes import Array
from bayesinv.classical.baseline import baseline
from bayesinv.posterior.active import CLEAR
from bayesinv.posterior.checks import Evidence
from bayesinv.report.page import html_table

if TYPE_CHECKING:
    from bayesinv.posterior.posterior import Posterior
    from bayesinv.problem.problem import Problem

BESIDE = "Focal sources or distributed currents"
"""Heading of the section of a report."""

HEADS = ("currents", "log evidence (nats)", "to the best")

CHOICES = {"1/9": "MNE-Python's λ² = 1/9", "gcv": "λ by GCV", "l-curve": "λ by L-curve"}
"""How λ of classical maps is chosen: as MNE-Python does by default, and from the recording."""


@dataclass(frozen=True, eq=False)
class Beside:
    """The posterior of distributed currents beside that of focal sources.

    focal, distributed : posteriors of one recording
    """

    focal: Posterior
    distributed: Posterior

    @property
    def difference(self) -> Evidence | None:
        """Log evidence of focal sources less that of distributed currents, nats; None where one is not known."""
        one, other = self.focal.log_evidence, self.distributed.log_evidence
        if one is None or other is None:
            return None
        return Evidence(one - other, float(np.hypot(one.error, other.error)))

    @property
    def words(self) -> str:
        """Which of the two the recording prefers, in a sentence."""
        distributed, difference = f"distributed currents ({self.distributed.model})", self.difference
        if difference is None:
            return f"Whether the recording prefers focal sources or {distributed} is not known: one has no evidence."
        nats = f"{abs(difference):.1f} ± {difference.error:.1f} nats of log evidence"
        if abs(difference) <= max(CLEAR, 2 * difference.error):
            return f"The recording does not tell whether focal sources or {distributed} are behind it ({nats} apart)."
        if difference > 0:
            return f"The recording prefers focal sources to {distributed}, by {nats}."
        return (
            f"The recording prefers {distributed} to focal sources, by {nats}: take what is said of single sources "
            "with caution."
        )

    def rows(self) -> list[tuple[str, str, str]]:
        """Rows of a table with the columns `HEADS`."""
        known = [one.log_evidence for one in (self.focal, self.distributed)]
        best = max((float(one) for one in known if one is not None), default=0.0)
        names = "focal sources above dense currents", "distributed currents"
        return [
            (
                f"{name} ({posterior.model})",
                "not known" if evidence is None else repr(evidence),
                "" if evidence is None else f"{float(evidence) - best:.1f}",
            )
            for name, posterior, evidence in zip(names, (self.focal, self.distributed), known, strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        """What the summary says of the distributed currents."""
        evidence, difference = self.distributed.log_evidence, self.difference
        return {
            "model": self.distributed.model,
            "log_evidence": None if evidence is None else float(evidence),
            "log_evidence_difference": None if difference is None else float(difference),
            "log_evidence_difference_error": None if difference is None else difference.error,
            "preference": self.words,
            "hyper": {name: self.distributed.hyper[name].mean for name in self.distributed.hyper},
            "checks": [vars(check) for check in self.distributed.checks],
        }

    def page(self) -> str:
        """The section of a report."""
        failed = [check.name for check in self.distributed.checks if not check.passed]
        text = f"<p>{escape(self.words)}</p>{html_table(HEADS, self.rows(), numbers=False)}"
        if failed:
            text += f"<p>Checks of the distributed currents that failed: {escape(', '.join(failed))}.</p>"
        return text

    def maps(self, window: tuple[float, float]) -> dict[str, Array]:
        """Strengths (source,) of the distributed currents and of MNE in a window, by title."""
        found = {f"Distributed currents ({self.distributed.model})": _strength(self.distributed, window)}
        return found | classical(self.focal.problem, window, {"MNE": ("1/9",)})


def _strength(posterior: Posterior, window: tuple[float, float]) -> Array:
    """Length of the mean current of every source, averaged over a window: (source,)."""
    problem = posterior.problem
    mean = np.asarray(posterior.mean).reshape(problem.source_count, problem.axes, -1)
    return np.asarray(np.linalg.norm(mean[..., problem.window(*window)].mean(axis=-1), axis=1))


def classical(problem: Problem, window: tuple[float, float], wanted: Mapping[str, tuple[str, ...]]) -> dict[str, Array]:
    """Strengths (source,) of classical estimates, averaged over a window, by title.

    wanted : for each method, keys of `CHOICES`; a title says where that choice of λ is in doubt
    """
    maps = {}
    for method, choices in wanted.items():
        for choice in choices:
            title = f"{method}, {CHOICES[choice]}"
            with warnings.catch_warnings(record=True) as doubts:
                warnings.simplefilter("always")
                found = baseline(problem, method, 1 / 9 if choice == "1/9" else choice, convention="mne")
            maps[title + " (in doubt)" * bool(doubts)] = np.abs(found.current[:, problem.window(*window)].mean(axis=1))
    return maps


def infer_beside(focal: Posterior, model: str, problem: Problem, rng: np.random.Generator) -> Beside:
    """Infer distributed currents of the recording that focal sources were inferred of.

    problem : with that recording
    """
    return Beside(focal, bayesinv.infer(model, problem, rng=rng))
