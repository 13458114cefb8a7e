"""A small problem on a cortex of two sheets that every shipped prior can be applied to."""

import numpy as np

import bayesinv as bi

GAIN = 2e8


def cortex(side=4):
    """Two gently folded sheets of sources with triangles, normals and areas; one per hemisphere."""
    rng = np.random.default_rng(7)
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    flat = np.column_stack([x.ravel(), y.ravel()]) * 0.012
    sheets, triangles, hemispheres = [], [], []
    for side_of_head, offset in enumerate((-0.06, 0.02)):
        height = 0.05 + 0.01 * np.sin(80 * flat[:, 0]) * np.cos(60 * flat[:, 1])
        sheets.append(np.column_stack([flat[:, 0] + offset, flat[:, 1], height]))
        for i in range(side - 1):
            for j in range(side - 1):
                a, b, c, d = i * side + j, (i + 1) * side + j, (i + 1) * side + j + 1, i * side + j + 1
                triangles += [[a + side_of_head * side**2, b + side_of_head * side**2, c + side_of_head * side**2]]
                triangles += [[a + side_of_head * side**2, c + side_of_head * side**2, d + side_of_head * side**2]]
        hemispheres += [side_of_head] * side**2
    positions = np.vstack(sheets)
    normals = np.column_stack([0.3 * rng.normal(size=(len(positions), 2)), np.ones(len(positions))])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return bi.Sources(
        positions, normals, np.array(triangles), np.full(len(positions), 1e-4), None, np.array(hemispheres)
    )


def scene(axes=1, *, sensors=9, samples=5, quiet=7, seed=0, amplitude=3.0, maps=True, error=False, side=4):
    """A whitened problem with three kinds of correlated sensors, sources on a cortex, parcels and a map."""
    rng = np.random.default_rng(seed)
    sources = cortex(side)
    count = len(sources)
    gain = rng.normal(size=(sensors, count, axes)) * np.exp(0.5 * rng.normal(size=(1, count, 1)))
    gain *= GAIN / np.sqrt(np.sum(gain**2) / sensors)
    mixing = np.eye(sensors) + 0.3 * rng.normal(size=(sensors, sensors)) / np.sqrt(sensors)
    current = amplitude / GAIN * rng.normal(size=(count * axes, samples))
    noise = rng.normal(size=(sensors, samples + quiet))
    field = mixing @ (gain.reshape(sensors, -1) @ current + noise[:, :samples])
    kinds = ["mag"] * (sensors // 3) + ["grad"] * (sensors // 3) + ["eeg"] * (sensors - 2 * (sensors // 3))
    problem = bi.Problem.from_arrays(
        (mixing @ gain.reshape(sensors, -1)).reshape(gain.shape) if axes == 3 else mixing @ gain[:, :, 0],
        field,
        mixing @ mixing.T,
        times=0.01 * np.arange(samples),
        baseline=mixing @ noise[:, samples:] if quiet else None,
        kinds=kinds,
        sources=sources,
    )
    if maps:
        problem = problem.with_maps({"fmri": rng.normal(size=count)})
    problem = problem.with_parcels(np.repeat(np.arange(4), count // 4))
    if error:
        from dataclasses import replace

        problem = replace(problem, error_factor=0.3 * GAIN * rng.normal(size=(problem.components, 3)))
    return problem
