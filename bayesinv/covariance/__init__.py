"""Relative covariances of currents, noise and time; no PyMC here."""
