"""Integration over hyperparameters: every method is a function from a model's density to a `Posterior`."""
