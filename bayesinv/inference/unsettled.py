"""What a method raises when its answer did not settle, so that another is taken."""

from __future__ import annotations


class UnsettledError(ValueError):
    """A lattice that is as fine as it may be does not give the moments: the density wants a sampler."""
