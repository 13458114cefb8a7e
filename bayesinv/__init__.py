"""Bayesian EEG/MEG source imaging: from a recording to the posterior of the currents behind it."""
