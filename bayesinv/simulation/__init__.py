"""Simulated recordings: true currents, time courses, noise, and the head that they are computed in."""
