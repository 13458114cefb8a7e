"""Priors over source currents: one PyMC model per file, each with a card and `model(problem)`."""
