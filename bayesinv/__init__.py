"""Bayesian EEG/MEG source imaging: from a recording to the posterior of the currents behind it."""

from bayesinv.catalogue import list_models, load_model, read_card
from bayesinv.currents import Currents
from bayesinv.head import Head
from bayesinv.inference import choose_method, infer
from bayesinv.leadfield import LeadField
from bayesinv.noise import Noise
from bayesinv.posterior import Posterior
from bayesinv.problem import Problem
from bayesinv.recording import Recording
from bayesinv.sensors import Sensors
from bayesinv.sources import Sources

__version__ = "0.1.0"

__all__ = [
    "Currents",
    "Head",
    "LeadField",
    "Noise",
    "Posterior",
    "Problem",
    "Recording",
    "Sensors",
    "Sources",
    "choose_method",
    "infer",
    "list_models",
    "load_model",
    "read_card",
]
