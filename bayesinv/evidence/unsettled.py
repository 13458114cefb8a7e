"""Errors of a method whose result has not converged, so that another method is used."""

from __future__ import annotations


class UnsettledError(ValueError):
    """The moments have not converged on the finest lattice allowed: the density needs a sampler."""


class ColoursTogetherError(UnsettledError):
    """Too much of the signal depends on each other for noise of several colours to be told apart."""
