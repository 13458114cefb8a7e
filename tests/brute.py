"""Posteriors of two hyperparameters by brute force, on dense grids."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import halfcauchy, lognorm

from bayesinv.prior.currents import Currents

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning")

REGIMES = {
    "ordinary": {},
    "free orientation": {"axes": 3},
    "centred baseline": {"centred": True},
    "no baseline": {"quiet": 0},
    "one sample": {"samples": 1},
    "one sample, no baseline": {"samples": 1, "quiet": 0},
    "no signal": {"amplitude": 1e-9, "samples": 30},
    "no signal, no baseline": {"amplitude": 1e-9, "quiet": 0},
    "strong signal": {"amplitude": 30.0},
    "strong signal, no baseline": {"amplitude": 30.0, "quiet": 0},
    "a signal beyond the prior": {"amplitude": 3000.0},
    "a signal beyond the prior, no baseline": {"amplitude": 3000.0, "quiet": 0},
    "more sensors than sources": {"sensors": 15, "sources": 3, "quiet": 0},
    "long": {"sensors": 20, "sources": 40, "samples": 300},
    "one source": {"sources": 1, "samples": 2},
    "one sensor, one sample": {"sensors": 1, "samples": 1, "quiet": 0},
}


class Brute:
    """The hierarchical model's posterior on a dense grid of log noise and log scale, and its evidence.

    Shares no code with the package: eigenvalues by a singular value decomposition, priors by SciPy.
    """

    def __init__(self, problem, weights=None):
        self.problem = problem
        gain = problem.gain * np.sqrt(np.ones(problem.gain.shape[1]) if weights is None else weights)
        left, values, _ = np.linalg.svd(gain)
        self.values = np.zeros(problem.components)
        self.values[: len(values)] = values**2
        self.powers = np.sum((left.T @ problem.recording) ** 2, axis=1)
        guess = np.log(problem.scale_guess)
        ranges = [(-8, 10), (guess - 45, guess + 10)]
        for count in (400, 300, 600):
            axes = [np.linspace(low, high, count) for low, high in ranges]
            log_density = self.log_density(*np.meshgrid(*axes, indexing="ij", sparse=True))
            rows, columns = np.nonzero(log_density > log_density.max() - 35)
            ranges = [
                (axis[max(index.min() - 1, 0)], axis[min(index.max() + 1, count - 1)])
                for axis, index in zip(axes, (rows, columns), strict=True)
            ]
        self.log_noise, self.log_scale = axes
        log_cell_area = np.log(np.prod([axis[1] - axis[0] for axis in axes]))
        self.log_evidence = logsumexp(log_density) + log_cell_area
        self.weights = np.exp(log_density - logsumexp(log_density))

    def log_density(self, log_noise, log_scale):
        """Log joint density of recording, log noise and log scale, of their shape."""
        problem = self.problem
        noise, scale = np.exp(log_noise), np.exp(log_scale)
        sd = 0.1 if problem.baseline is None else 0.5
        out = lognorm(sd).logpdf(noise) + log_noise + halfcauchy(scale=problem.scale_guess).logpdf(scale) + log_scale
        samples = problem.recording.shape[1]
        for value, power in zip(self.values, self.powers, strict=True):
            total = scale**2 * value + noise**2
            out -= 0.5 * (samples * np.log(2 * np.pi * total) + power / total)
        if problem.baseline is not None:
            count = problem.components * (problem.baseline.shape[1] - problem.baseline_centred)
            out -= 0.5 * (count * np.log(2 * np.pi * noise**2) + np.sum(problem.baseline**2) / noise**2)
        return out

    def marginal(self, name):
        """Values (point,) and weights (point,) of a hyperparameter."""
        noise, scale = np.exp(self.log_noise)[:, None], np.exp(self.log_scale)[None]
        table = {"noise": noise + 0 * scale, "scale": scale + 0 * noise, "lambda": (noise / scale) ** 2}[name]
        return table.ravel(), self.weights.ravel()

    def moments(self, name, *, log=False):
        """Posterior mean and standard deviation of a hyperparameter, or of its logarithm."""
        values, weights = self.marginal(name)
        values = np.log(values) if log else values
        mean = weights @ values
        return mean, np.sqrt(weights @ (values - mean) ** 2)

    def distribution(self, name):
        """Cumulative distribution function of a hyperparameter, each grid cell spread over its width."""
        for other, grid, axis in (("noise", self.log_noise, 1), ("scale", self.log_scale, 0)):
            if name == other:
                edges = np.append(grid, 2 * grid[-1] - grid[-2]) - (grid[1] - grid[0]) / 2
                cumulative = np.append(0, np.cumsum(self.weights.sum(axis=axis)))
                return lambda x: np.interp(np.log(x), edges, cumulative)
        values, weights = self.marginal(name)
        order = np.argsort(values)
        cumulative = np.cumsum(weights[order]) - 0.5 * weights[order]
        return lambda x: np.interp(x, values[order], cumulative, left=0, right=1)


def built(problem, scale, noise=None, depth=None, weights=None):
    """A model of given priors, each a function from `pymc` to a random variable or number."""
    import pymc as pm

    with pm.Model(coords=problem.coords) as model:
        sigma = pm.LogNormal("noise", 0.0, 0.1) if noise is None else noise(pm)
        exponent = depth(pm) if callable(depth) else depth
        Currents(variance=scale(pm) ** 2, depth=exponent, weights=weights).observe("recording", problem, noise=sigma)
    return model
