"""The answer: a mixture of exact Gaussians over hyperparameters, and a file for each kind of question to it."""
