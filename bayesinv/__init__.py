"""Bayesian EEG/MEG source imaging: from a recording to the posterior of the currents behind it."""

from bayesinv.currents import Currents
from bayesinv.problem import Problem

__all__ = ["Currents", "Problem"]
