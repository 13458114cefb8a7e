"""Dense reference algebra for tests: slow, plain, and sharing no formula with the package."""

import mpmath as mp
import numpy as np

import bayesinv as bi

GAIN = 2e8  # 1/(A m): the size of whitened gains of MEG and EEG, for currents of some 1e-9 A m


def toy(
    seed=0, *, sensors=6, sources=11, samples=4, axes=1, quiet=9, centred=False, amplitude=3.0, spread=0.5, **given
):
    """A whitened problem in which every axis has its own length; its sources differ in depth and lie in a box."""
    rng = np.random.default_rng(seed)
    gain = rng.normal(size=(sensors, sources, axes)) * np.exp(spread * rng.normal(size=(1, sources, 1)))
    gain *= GAIN / np.sqrt(np.sum(gain**2) / sensors)
    current = amplitude / GAIN * rng.normal(size=(sources * axes, samples))
    recording = gain.reshape(sensors, -1) @ current + rng.normal(size=(sensors, samples))
    baseline = rng.normal(size=(sensors, quiet)) if quiet else None
    if centred:
        baseline -= baseline.mean(axis=1, keepdims=True)
    normals = rng.normal(size=(sources, 3))
    return bi.Problem.from_arrays(
        gain[:, :, 0] if axes == 1 else gain,
        recording,
        times=0.1 + 0.01 * np.arange(samples),
        baseline=baseline,
        baseline_centred=centred,
        positions=rng.uniform(-0.07, 0.07, (sources, 3)),
        normals=normals / np.linalg.norm(normals, axis=1, keepdims=True),
        # Dense algebra here takes samples one by one, as noise does that is white in every respect.
        **({"noise_time": "white"} if centred else {}),
        **given,
    )


def as_written():
    """PyTensor's mode that runs a graph as it is written: for a few numbers, rewriting it takes longer than the run."""
    from pytensor.compile.mode import Mode

    return Mode(linker="py", optimizer="None")


def depth(problem, exponent):
    """Relative prior variances (amplitude,), written out source by source."""
    norms = []
    for s in range(problem.source_count):
        block = problem.gain[:, s * problem.axes : (s + 1) * problem.axes]
        norms.append(np.linalg.norm(block))
    weights = np.repeat(
        np.array(norms) ** (-2.0 * exponent) / np.max(np.array(norms) ** (-2.0 * exponent)), problem.axes
    )
    full = np.trace(problem.gain @ problem.gain.T)
    return weights * full / np.trace(problem.gain @ np.diag(weights) @ problem.gain.T)


def exact_posterior(gain, recording, prior, noise):
    """Mean, covariance and resolution matrix of currents ~ N(0, prior) from a gain in white noise, in mpmath."""
    with mp.workdps(40):
        G, Y, P = (mp.matrix(table.tolist()) for table in (gain, recording, prior))
        cross = P * G.T
        K = cross * mp.inverse(G * cross + mp.mpf(float(noise)) ** 2 * mp.eye(G.rows))
        return tuple(np.array(table.tolist(), dtype=float) for table in (K * Y, P - K * (G * P), K * G))


def dense_nodes(posterior):
    """Per node of the mixture: weight, mean (amplitude, time) and covariance (amplitude, amplitude), dense."""
    problem, mixture = posterior.problem, posterior.mixture
    for weight, variance, noise, which in zip(
        mixture.weights, mixture.variance, mixture.noise, mixture.which, strict=True
    ):
        structure = mixture.structures[which]
        prior = np.diag(variance * structure.diagonal(problem))
        total = problem.gain @ prior @ problem.gain.T + noise**2 * np.eye(problem.components)
        filters = np.linalg.solve(total, problem.gain @ prior).T
        yield weight, filters @ problem.recording, prior - filters @ problem.gain @ prior


def dense_mixture(posterior):
    """Weights (node,), means (node, amplitude, time) and covariances (node, amplitude, amplitude)."""
    weights, means, covariances = zip(*dense_nodes(posterior), strict=True)
    return np.array(weights), np.array(means), np.array(covariances)
