"""Integrals over beliefs: every method is a function from a model to a `Posterior`."""
