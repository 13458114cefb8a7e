"""The answer: a mixture of exact Gaussians over hyperparameters, and a room for each question that it can be asked."""
