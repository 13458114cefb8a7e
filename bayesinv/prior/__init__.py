"""Priors: currents, scales and model files, and the density of a model's hyperparameters."""
