"""Priors: what several models believe alike, said once."""
