"""The error of a method whose result has not converged, so that another method is used."""

from __future__ import annotations


class UnsettledError(ValueError):
    """The moments have not converged on the finest lattice allowed: the density needs a sampler."""
