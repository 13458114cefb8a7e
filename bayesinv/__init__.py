"""Bayesian EEG/MEG source imaging: from a recording to the posterior of the currents behind it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesinv.bridges.archive_load import load as load
    from bayesinv.bridges.mne_in import from_mne as from_mne
    from bayesinv.classical.baseline import baseline as baseline
    from bayesinv.classical.minimum_norm import tikhonov as tikhonov
    from bayesinv.classical.mne_prior import prior_from_mne as prior_from_mne
    from bayesinv.classical.resolution import resolution as resolution
    from bayesinv.classical.surface_axes import surface_axes as surface_axes
    from bayesinv.criticism.averaging import average as average
    from bayesinv.criticism.calibration import sbc as sbc
    from bayesinv.criticism.comparison import compare as compare
    from bayesinv.criticism.estimates import compare_estimates as compare_estimates
    from bayesinv.criticism.posterior_predictive import posterior_predictive as posterior_predictive
    from bayesinv.criticism.prior_predictive import prior_predictive as prior_predictive
    from bayesinv.forward.leadfield import LeadField as LeadField
    from bayesinv.head.brain_maps import sample_map as sample_map
    from bayesinv.head.head import Head as Head
    from bayesinv.head.parcels import parcels as parcels
    from bayesinv.head.sensors import Sensors as Sensors
    from bayesinv.head.sources import Sources as Sources
    from bayesinv.inference.infer import choose_method as choose_method
    from bayesinv.inference.infer import infer as infer
    from bayesinv.inference.many import infer_many as infer_many
    from bayesinv.posterior.posterior import Posterior as Posterior
    from bayesinv.prior.catalogue import default_model as default_model
    from bayesinv.prior.catalogue import list_models as list_models
    from bayesinv.prior.catalogue import load_model as load_model
    from bayesinv.prior.catalogue import read_card as read_card
    from bayesinv.prior.currents import Currents as Currents
    from bayesinv.prior.patches import Patches as Patches
    from bayesinv.prior.scales import global_scale as global_scale
    from bayesinv.prior.scales import noise_scale as noise_scale
    from bayesinv.prior.scales import source_scale as source_scale
    from bayesinv.prior.scales import time_constant as time_constant
    from bayesinv.problem.model_error import ForwardError as ForwardError
    from bayesinv.problem.model_error import forward_error as forward_error
    from bayesinv.problem.noise import Noise as Noise
    from bayesinv.problem.problem import Problem as Problem
    from bayesinv.problem.recording import Recording as Recording
    from bayesinv.report.evaluation import evaluate as evaluate
    from bayesinv.simulation.recording import simulate as simulate

__version__ = "0.1.0"

# Public names and the rooms they live in; a room is entered when one of its names is first asked for.
_ROOMS = {
    "Currents": "prior.currents",
    "ForwardError": "problem.model_error",
    "Head": "head.head",
    "LeadField": "forward.leadfield",
    "Noise": "problem.noise",
    "Patches": "prior.patches",
    "Posterior": "posterior.posterior",
    "Problem": "problem.problem",
    "Recording": "problem.recording",
    "Sensors": "head.sensors",
    "Sources": "head.sources",
    "average": "criticism.averaging",
    "baseline": "classical.baseline",
    "choose_method": "inference.infer",
    "compare": "criticism.comparison",
    "compare_estimates": "criticism.estimates",
    "default_model": "prior.catalogue",
    "evaluate": "report.evaluation",
    "forward_error": "problem.model_error",
    "from_mne": "bridges.mne_in",
    "global_scale": "prior.scales",
    "infer": "inference.infer",
    "infer_many": "inference.many",
    "list_models": "prior.catalogue",
    "load": "bridges.archive_load",
    "load_model": "prior.catalogue",
    "noise_scale": "prior.scales",
    "parcels": "head.parcels",
    "posterior_predictive": "criticism.posterior_predictive",
    "prior_from_mne": "classical.mne_prior",
    "prior_predictive": "criticism.prior_predictive",
    "read_card": "prior.catalogue",
    "resolution": "classical.resolution",
    "sample_map": "head.brain_maps",
    "sbc": "criticism.calibration",
    "simulate": "simulation.recording",
    "source_scale": "prior.scales",
    "surface_axes": "classical.surface_axes",
    "tikhonov": "classical.minimum_norm",
    "time_constant": "prior.scales",
}

__all__ = sorted(_ROOMS)


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"bayesinv has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"bayesinv.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
