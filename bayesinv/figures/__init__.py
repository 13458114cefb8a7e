"""Figures: each function draws one noun and returns a `matplotlib.figure.Figure`, without window or global state.

Arguments are in SI units; nA·m, ms, µV, fT and mm are drawn. A module is imported when one of its names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesinv.figures.calibration import coverage_curve as coverage_curve
    from bayesinv.figures.calibration import pit_histogram as pit_histogram
    from bayesinv.figures.calibration import rank_curves as rank_curves
    from bayesinv.figures.calibration import reliability_diagram as reliability_diagram
    from bayesinv.figures.cortex import compare_maps as compare_maps
    from bayesinv.figures.cortex import cortex_maps as cortex_maps
    from bayesinv.figures.evaluation import evaluation_coverage as evaluation_coverage
    from bayesinv.figures.evaluation import evaluation_localisation as evaluation_localisation
    from bayesinv.figures.evaluation import evaluation_reliability as evaluation_reliability
    from bayesinv.figures.hyperparameters import HYPER as HYPER
    from bayesinv.figures.hyperparameters import chains as chains
    from bayesinv.figures.hyperparameters import hyper as hyper
    from bayesinv.figures.hyperparameters import prior_draws as prior_draws
    from bayesinv.figures.predictive import posterior_predictive as posterior_predictive
    from bayesinv.figures.predictive import prior_predictive as prior_predictive
    from bayesinv.figures.recording import recording_and_fit as recording_and_fit
    from bayesinv.figures.regions import region_course as region_course
    from bayesinv.figures.regularisation import l_curve as l_curve
    from bayesinv.figures.side_by_side import comparison as comparison
    from bayesinv.figures.side_by_side import model_comparison as model_comparison
    from bayesinv.figures.style import counted as counted
    from bayesinv.figures.surface import VIEWS as VIEWS
    from bayesinv.wording import percent as percent
    from bayesinv.wording import spell as spell

# Public names and the modules that define them; no module has the name of one.
_ROOMS = {
    "HYPER": "figures.hyperparameters",
    "VIEWS": "figures.surface",
    "chains": "figures.hyperparameters",
    "compare_maps": "figures.cortex",
    "comparison": "figures.side_by_side",
    "cortex_maps": "figures.cortex",
    "counted": "figures.style",
    "coverage_curve": "figures.calibration",
    "evaluation_coverage": "figures.evaluation",
    "evaluation_localisation": "figures.evaluation",
    "evaluation_reliability": "figures.evaluation",
    "hyper": "figures.hyperparameters",
    "l_curve": "figures.regularisation",
    "model_comparison": "figures.side_by_side",
    "percent": "wording",
    "pit_histogram": "figures.calibration",
    "posterior_predictive": "figures.predictive",
    "prior_draws": "figures.hyperparameters",
    "prior_predictive": "figures.predictive",
    "rank_curves": "figures.calibration",
    "recording_and_fit": "figures.recording",
    "region_course": "figures.regions",
    "reliability_diagram": "figures.calibration",
    "spell": "wording",
}

__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"bayesinv.figures has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"bayesinv.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
