"""Evaluation of methods on simulated truths: a configuration, its cells, their results."""
