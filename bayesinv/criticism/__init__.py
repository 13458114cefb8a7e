"""Whether a model holds: predictive checks, leave-one-out, comparison, averaging, calibration."""
