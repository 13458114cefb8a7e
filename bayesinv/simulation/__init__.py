"""Recordings whose truth is known: truths, time courses, noise, and heads they flow in."""
