"""Scores of results whose truth is known: localisation errors, proper scores, calibration."""
