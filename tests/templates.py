"""A small problem that fits each shipped model, and each model's prior written out by hand: slow, dense and plain."""

import numpy as np
from referee import GAIN, depth, toy
from scipy.stats import truncnorm

import bayesinv as bi
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.head.cortical_field import Matern

SIZE = {"sensors": 7, "sources": 19, "samples": 3, "quiet": 6}


def parcels(count):
    """Labels of two parcels; some sources lie in none."""
    first, second = 8 * count // 19, 7 * count // 19
    return np.repeat([0, 1, -1], [first, second, count - first - second])


def brain_map(count):
    """A map that is not standardised."""
    return np.sin(np.arange(float(count))) + 0.1 * np.arange(count)


def template(name, **given):
    """A problem with all that a model asks for, of the same size and random numbers as the others where possible."""
    size = SIZE | given
    if name == "oriented":
        return toy(axes=3, **size | {"sources": given.get("sources", 11)})
    if name == "sensor_noise":
        size |= {"sensors": given.get("sensors", 8)}
        root = np.random.default_rng(1).normal(size=(size["sensors"], 5 * size["sensors"]))
        kinds = np.resize(["eeg", "mag", "eeg", "mag", "eeg", "eeg", "mag", "eeg"], size["sensors"])
        return toy(noise_cov=root @ root.T / root.shape[1], kinds=list(kinds), **size)
    if name == "smooth":
        return ball(**size)
    problem = toy(**size | ({"samples": given.get("samples", 6)} if name == "temporal" else {}))
    if name == "fmri_informed":
        return problem.with_maps({"one": brain_map(problem.source_count)})
    return problem.with_parcels(parcels(problem.source_count)) if name == "multiple_sparse_priors" else problem


def ball(*, sensors, samples, quiet, sources=None):
    """Sources on a sphere of triangles, whose gain falls with the square of the distance."""
    rng = np.random.default_rng(2)
    sphere = geodesic_sphere(2)
    around = rng.normal(size=(sensors, 3))
    offset = 0.11 * around[:, None] / np.linalg.norm(around[:, None], axis=2, keepdims=True) - 0.08 * sphere.vertices
    gain = np.sum(offset * sphere.vertices, axis=2) / np.linalg.norm(offset, axis=2) ** 3
    gain *= GAIN / np.sqrt(np.sum(gain**2) / sensors)
    return bi.Problem.from_arrays(
        gain,
        rng.normal(size=(sensors, samples)),
        baseline=rng.normal(size=(sensors, quiet)) if quiet else None,
        sources=bi.Sources(0.08 * sphere.vertices, triangles=sphere.triangles),
    )


def hyper(name, problem, rng):
    """Free hyperparameters of a shipped model, drawn by NumPy."""
    guess = 3 * np.sqrt(len(problem.gain) / np.sum(problem.gain**2))
    width = 0.1 if problem.baseline is None else 0.5
    if name == "minimum_norm":
        return {}
    out = {"noise": np.exp(width * rng.normal()), "scale": guess * abs(rng.standard_cauchy())}
    if name == "horseshoe":
        count = problem.source_count
        return out | {"scale": out["scale"] / np.sqrt(count), "local": np.abs(rng.standard_cauchy(count))}
    if name in ("depth_weighted", "oriented"):
        out["depth"] = rng.uniform()
    if name == "oriented":
        out["tangential"] = rng.uniform()
    if name == "sensor_noise":
        out["ratio_mag" if problem.kinds[1] == "mag" else "ratio_eeg"] = np.exp(width * rng.normal())
    if name == "smooth":
        out["extent"] = rng.uniform()
    if name == "fmri_informed":
        out["weight_one"] = rng.normal()
    if name == "multiple_sparse_priors":
        out |= {"spread": 2 * abs(rng.normal()), "raw[0]": rng.normal(), "raw[1]": rng.normal()}
    if name == "temporal":
        low, high = np.log(0.5 * 0.01), np.log(5 * 0.01 * (len(problem.times) - 1))
        middle = np.log(0.02)
        out["log_constant"] = truncnorm(low - middle, high - middle, middle, 1).rvs(random_state=rng)
    return out


def covariances(name, problem, values):
    """Covariances of the currents (amplitude, amplitude), their time courses (time, time) and the noise, dense."""
    size, samples = problem.gain.shape[1], len(problem.times)
    guess = 3 * np.sqrt(len(problem.gain) / np.sum(problem.gain**2))
    relative, course, noise = np.eye(size), np.eye(samples), np.eye(len(problem.gain))
    if name in ("depth_weighted", "oriented"):
        relative = np.diag(depth(problem, values["depth"]))
    if name == "oriented":
        for s, normal in enumerate(problem.sources.normals):
            block = slice(3 * s, 3 * s + 3)
            along = np.outer(normal, normal)
            relative[block, block] *= relative[3 * s, 3 * s] / np.diag(relative[block, block])[0]
            relative[block, block] = relative[3 * s, 3 * s] * (along + values["tangential"] * (np.eye(3) - along))
    if name == "smooth":
        field = Matern.of(problem.sources).at(0.005 * 20 ** values["extent"])
        relative = field.product(np.eye(size))
    if name == "fmri_informed":
        given = brain_map(size)
        relative = np.diag(np.exp(values["weight_one"] * (given - given.mean()) / given.std()))
    if name == "multiple_sparse_priors":
        shares = [np.exp(values["spread"] * values[f"raw[{k}]"]) for k in (0, 1)] + [0.0]
        relative = np.diag([shares[k] for k in parcels(size)])
    if name == "temporal":
        lag = np.sqrt(3) * np.abs(problem.times[:, None] - problem.times) / np.exp(values["log_constant"])
        course = (1 + lag) * np.exp(-lag)
    if name == "sensor_noise":
        other = next(key for key in values if key.startswith("ratio"))
        scales = np.diag([values[other] if other.endswith(kind) else 1.0 for kind in problem.noise.kinds])
        noise = problem.whitener @ scales @ problem.noise.covariance @ scales @ problem.whitener.T
    if name == "horseshoe":
        relative = np.diag(np.repeat(values["local"] ** 2, size // problem.source_count))
        return values["scale"] ** 2 * relative, course, values["noise"] ** 2 * noise
    relative *= np.trace(problem.gain @ problem.gain.T) / np.trace(problem.gain @ relative @ problem.gain.T)
    return values.get("scale", guess) ** 2 * relative, course, values.get("noise", 1.0) ** 2 * noise


def simulate(name, problem, rng):
    """Hyperparameters, currents (amplitude, time) and the problem they make, by none of the package's priors."""
    values = hyper(name, problem, rng)
    spatial, course, noise = covariances(name, problem, values)
    jittered = spatial + 1e-12 * np.trace(spatial) / len(spatial) * np.eye(len(spatial))
    diagonal = np.count_nonzero(spatial) == np.count_nonzero(np.diag(spatial))
    root = np.sqrt(jittered) if diagonal else np.linalg.cholesky(jittered)
    current = root @ rng.normal(size=(len(spatial), len(course))) @ np.linalg.cholesky(course).T
    quiet = 0 if problem.baseline is None else problem.baseline.shape[1]
    error = np.linalg.cholesky(noise) @ rng.normal(size=(len(noise), len(course) + quiet))
    recording, baseline = problem.gain @ current + error[:, : len(course)], error[:, len(course) :]
    return values, current, problem.again(recording, baseline=baseline if quiet else None)
