"""Finite elements: linear tetrahedra with a conductivity tensor each, for the potential and the magnetic field.

The potential V of a current dipole M at x0 solves, for every test function v,

    ∫ σ ∇V . ∇v = M . ∇v(x0)

with piecewise linear V and v on a tetrahedral mesh: A V = b. A sensor reads a linear functional s of V, so that one
solution of A t = s per sensor (not per source) gives t . b for every source (Weinstein, Zhukov & Johnson 2000,
Ann. Biomed. Eng. 28, 1059-1066; Wolters, Grasedyck & Hackbusch 2004, Inverse Probl. 20, 1099-1116).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, diags, triu
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index, freeze, one_of
from bayesinv.forward.leadfield import LeadField
from bayesinv.forward.unbounded import MU0_4PI, primary_field
from bayesinv.geometry.surfaces import Surface, inside
from bayesinv.geometry.tetrahedra import EDGES, FACETS, Tetrahedra, check_mesh, describe, neighbours, positive
from bayesinv.head.head import Conductivity, Head
from bayesinv.head.sensors import Sensors, footing
from bayesinv.head.sources import Sources
from bayesinv.head.tensors import conductivity_tensors, mesh_of

SOURCE_MODELS = ("subtraction", "venant", "partial_integration")
SOLVERS = ("auto", "pardiso", "cg")
BLOCK = 16  # right-hand sides solved together
CLOSEST = 1e-5  # m, of a source to the boundary of its compartment

# Quadrature of degree 8 on a triangle: barycentric points and weights (Dunavant 1985, Int. J. Numer. Methods Eng.
# 21, 1129-1148); each row stands for all its distinct permutations.
_ORBITS = (
    (0.144315607677787, 1 / 3, 1 / 3, 1 / 3),
    (0.095091634267285, 0.081414823414554, 0.459292588292723, 0.459292588292723),
    (0.103217370534718, 0.658861384496480, 0.170569307751760, 0.170569307751760),
    (0.032458497623198, 0.898905543365938, 0.050547228317031, 0.050547228317031),
    (0.027230314174435, 0.008394777409958, 0.263112829634638, 0.728492392955404),
)
_TURNS = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2))
_RULE = np.array(
    [
        (*point, weight)
        for weight, *corner in _ORBITS
        for point in sorted({tuple(corner[i] for i in turn) for turn in _TURNS})
    ]
)
NEAR = 1.2  # a facet is cut in four while its middle is nearer than this many of its longest edges
_DEPTH = 14  # at most, of the halvings of a facet
INWARDS = 1 - 5**-0.5  # of the four points of degree 2 in a tetrahedron, from its corners


def lead_field(
    head: Head,
    sensors: Sensors,
    sources: Sources,
    *,
    source_model: str = "subtraction",
    solver: str = "auto",
    cache: Path | str | None = None,
    progress: bool = False,
    within: Sequence[str] | None = None,
) -> LeadField:
    """Return the lead field (sensor, source, 3) of a head whose `mesh` is given, by finite elements.

    source_model : "subtraction", "venant" or "partial_integration"; see `Transfer.lead_field`
    solver : "auto", "pardiso" or "cg"; see `choose_solver`
    cache : folder for the transfer matrix, such as `default_cache()`; None keeps none
    progress : show a bar over the right-hand sides
    within : names of the compartments where sources may lie; the innermost if None

    The potential is measured from its mean over the scalp.

    Raises
    ------
    ValueError
        If the head has no sound mesh, a conductivity is not positive, an electrode is far from the scalp, a coil
        is inside the head, or a source is outside its compartment.
    MemoryError
        If the problem wants more memory than there is.
    """
    one_of("source model", source_model, SOURCE_MODELS)
    carried = transfer(head, sensors, solver=solver, cache=cache, progress=progress)
    return carried.lead_field(sources, source_model=source_model, within=within)


# --- stiffness --------------------------------------------------------------------------------------------


def gradients(nodes: Array, elements: Index) -> tuple[Array, Array]:
    """Return the gradients (element, 4, 3) in 1/m of the hat functions and the volumes (element,) in m³."""
    corner = nodes[elements]
    a, b, c = (corner[:, i] - corner[:, 0] for i in (1, 2, 3))
    slope = np.empty((len(elements), 4, 3))
    slope[:, 1], slope[:, 2], slope[:, 3] = np.cross(b, c), np.cross(c, a), np.cross(a, b)
    six = np.einsum("ei,ei->e", a, slope[:, 1])
    slope[:, 1:] /= six[:, None, None]
    slope[:, 0] = -slope[:, 1:].sum(axis=1)
    return slope, np.abs(six) / 6


def stiffness(nodes: Array, elements: Index, tensors: Array) -> csr_matrix:
    """Return the stiffness matrix (node, node) in S, ∫ ∇φi . σ ∇φj.

    Its rows sum to zero exactly as they are made: the potential is known up to a constant.
    """
    count = len(nodes)
    weight = np.empty((len(elements), 6))
    for chunk in np.array_split(np.arange(len(elements)), len(elements) // 100_000 + 1):
        slope, volume = gradients(nodes, elements[chunk])
        flux = slope @ tensors[chunk] * volume[:, None, None]
        weight[chunk] = np.einsum("eki,eki->ek", flux[:, EDGES[:, 0]], slope[:, EDGES[:, 1]])
    pair = np.sort(elements[:, EDGES].reshape(-1, 2), axis=1).astype(np.int32)
    upper = coo_matrix((weight.ravel(), (pair[:, 0], pair[:, 1])), shape=(count, count)).tocsr()
    both = upper + upper.T
    matrix = (both - diags(np.asarray(both.sum(axis=1)).ravel())).tocsr()
    matrix.sort_indices()
    return matrix


# --- solvers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """A solver, why it is chosen, and the memory in GB that it will want."""

    name: str
    why: str
    gigabytes: float


def choose_solver(nodes: int, elements: int, sensors: int, solver: str = "auto") -> Choice:
    """Return the solver for a mesh, why, and the memory it wants.

    "pardiso" factorises with Intel MKL (the extra `pypardiso`, x86 only) and is the faster; "cg" is conjugate
    gradients with algebraic multigrid (pyamg), needs no extra and the least memory.

    Raises
    ------
    ValueError
        If there is no solver of that name.
    ImportError
        If Pardiso is asked for by name and not installed.
    MemoryError
        If the solver wants more memory than there is: how much, and what to change.
    """
    one_of("solver", solver, SOLVERS)
    # Fill of a nested dissection in 3-D grows as nodes^(4/3); the constant is measured.
    held = 8e-9 * nodes * (sensors + 4 * BLOCK) + 4e-7 * elements + 2e-7 * nodes
    need = {"pardiso": held + 1.3 * (nodes / 177e3) ** (4 / 3), "cg": held + 1e-6 * nodes}
    free = available_memory()
    installed = importlib.util.find_spec("pypardiso") is not None
    if solver == "pardiso" and not installed:
        raise ImportError("solver 'pardiso' wants pypardiso: pip install pypardiso; or use solver='cg'")
    if solver != "auto":
        name, why = solver, "asked for"
    elif not installed:
        name, why = "cg", "pypardiso is not installed"
    elif need["pardiso"] > free:
        name, why = "cg", f"factors of {need['pardiso']:.2g} GB do not fit into {free:.2g} GB"
    else:
        name, why = "pardiso", "pypardiso is installed and the factors fit into memory"
    if need[name] > free:
        other = "" if name == "cg" else ", solver='cg'"
        raise MemoryError(
            f"{nodes} nodes and {sensors} sensors want about {need[name]:.3g} GB by {name}, but {free:.3g} GB are "
            f"free; use a coarser mesh, fewer sensors at a time{other}, or a larger machine"
        )
    return Choice(name, why, need[name])


def available_memory() -> float:
    """Return the memory in GB that is free for use, infinite where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024e-9
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 1e-9
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _workers() -> int:
    """Return how many threads may run."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shared(work: Callable[..., None], count: int, *rest: Any) -> None:
    """Do `work(first, last, *rest)` on `count` things in threads; the work must release the interpreter lock."""
    workers = min(_workers(), max(count, 1))
    cuts = np.linspace(0, count, 4 * workers + 1 if workers > 1 else 2).astype(int).tolist()
    with ThreadPoolExecutor(workers) as pool:
        started = [pool.submit(work, a, b, *rest) for a, b in pairwise(cuts) if b > a]
        for part in started:
            part.result()


class _Product:
    """A sparse matrix times a block of vectors, rows shared between threads."""

    def __init__(self, matrix: csr_matrix, pool: ThreadPoolExecutor) -> None:
        cuts = np.linspace(0, matrix.shape[0], _workers() + 1).astype(int)
        self.parts = [(a, b, matrix[a:b]) for a, b in pairwise(cuts) if b > a]
        self.shape, self.dtype, self.pool = matrix.shape, matrix.dtype, pool

    def __call__(self, block: NDArray[Any]) -> NDArray[Any]:
        out = np.empty((self.shape[0], block.shape[1]), self.dtype)

        def one(first: int, last: int, part: csr_matrix) -> None:
            out[first:last] = part @ block

        list(self.pool.map(lambda part: one(*part), self.parts))
        return out


class _Multigrid:
    """One V-cycle of smoothed aggregation with Chebyshev smoothing, on blocks of vectors in single precision.

    Single precision halves the traffic; the residual is kept in double precision by the iteration around it.
    """

    def __init__(self, matrix: csr_matrix, pool: ThreadPoolExecutor) -> None:
        import pyamg

        # pyamg draws from NumPy's global generator; the same matrix shall give the same cycle, and nobody else's
        # draws shall move.
        state = np.random.get_state()  # noqa: NPY002
        np.random.seed(0)  # noqa: NPY002
        try:
            built = pyamg.smoothed_aggregation_solver(matrix, symmetry="symmetric", max_coarse=300)
        finally:
            np.random.set_state(state)  # noqa: NPY002
        self.levels = []
        for level in built.levels[:-1]:
            inverse = 1 / level.A.diagonal()
            guess = np.random.default_rng(0).normal(size=level.A.shape[0])
            for _ in range(15):
                guess = inverse * (level.A @ guess)
                top = np.linalg.norm(guess)
                guess /= top
            self.levels.append(
                (
                    _Product(level.A.tocsr().astype(np.float32), pool),
                    _Product(level.P.tocsr().astype(np.float32), pool),
                    _Product(level.R.tocsr().astype(np.float32), pool),
                    inverse.astype(np.float32)[:, None],
                    1.1 * float(top),
                )
            )
        self.coarse = np.linalg.pinv(built.levels[-1].A.toarray(), hermitian=True).astype(np.float32)

    def __call__(self, residual: Array) -> Array:
        scale = np.linalg.norm(residual, axis=0)
        scale[scale == 0] = 1
        return self._cycle((residual / scale).astype(np.float32), 0) * scale

    def _cycle(self, right: NDArray[np.float32], depth: int) -> NDArray[np.float32]:
        if depth == len(self.levels):
            return self.coarse @ right
        matrix, finer, coarser, _, _ = self.levels[depth]
        x = self._smooth(None, right, depth)
        x += finer(self._cycle(coarser(right - matrix(x)), depth + 1))
        return self._smooth(x, right, depth)

    def _smooth(self, x: NDArray[np.float32] | None, right: NDArray[np.float32], depth: int) -> NDArray[np.float32]:
        """Two steps of Chebyshev iteration on the upper three quarters of the spectrum (Adams et al. 2003)."""
        matrix, _, _, inverse, top = self.levels[depth]
        middle, half = 0.625 * top, 0.375 * top
        step = inverse * (right if x is None else right - matrix(x)) * np.float32(1 / middle)
        x = step.copy() if x is None else x + step
        rho = half / middle
        after = 1 / (2 * middle / half - rho)
        step = np.float32(after * rho) * step + np.float32(2 * after / half) * (inverse * (right - matrix(x)))
        x += step
        return x


def _conjugate_gradients(matrix: csr_matrix, right: Array, tolerance: float, tick: Callable[[int], None]) -> None:
    """Overwrite the columns of `right` by solutions, block by block: conjugate gradients with multigrid.

    Columns iterate side by side and share the sparse products. The matrix has the constants as its null space, and
    the right-hand sides have none of it.
    """
    with ThreadPoolExecutor(_workers()) as pool:
        product, cycle = _Product(matrix, pool), _Multigrid(matrix, pool)
        for first in range(0, right.shape[1], BLOCK):
            residual = np.ascontiguousarray(right[:, first : first + BLOCK])
            size = np.linalg.norm(residual, axis=0)
            size[size == 0] = 1
            x = np.zeros_like(residual)
            z = cycle(residual)
            direction = z
            weight = np.einsum("ij,ij->j", residual, z)
            for _ in range(400):
                image = product(direction)
                curve = np.einsum("ij,ij->j", direction, image)
                step = np.divide(weight, curve, out=np.zeros_like(weight), where=curve > 0)
                x += step * direction
                residual -= step * image
                if (np.linalg.norm(residual, axis=0) <= tolerance * size).all():
                    break
                z = cycle(residual)
                before, weight = weight, np.einsum("ij,ij->j", residual, z)
                direction = z + np.divide(weight, before, out=np.zeros_like(weight), where=before > 0) * direction
            else:
                left = float((np.linalg.norm(residual, axis=0) / size).max())
                raise RuntimeError(
                    f"conjugate gradients did not converge (residual {left:.2g}, wanted {tolerance:.2g}); the mesh "
                    "has elements of very low quality, see `quality`, or use solver='pardiso'"
                )
            right[:, first : first + BLOCK] = x
            tick(x.shape[1])


def _pardiso(matrix: csr_matrix, right: Array, tick: Callable[[int], None]) -> None:
    """Overwrite the columns of `right` by solutions, by MKL Pardiso with the first node at zero."""
    # MKL reads it when it is loaded; its own choice of threads leaves cores idle in the factorisation.
    os.environ.setdefault("MKL_DYNAMIC", "FALSE")
    import pypardiso

    upper = triu(matrix[1:, 1:], format="csr")
    upper.sort_indices()
    engine = pypardiso.PyPardisoSolver(mtype=2)
    # No defaults; parallel nested dissection; no refinement; two-level factorisation.
    for place, value in ((1, 1), (2, 3), (8, 0), (24, 1)):
        engine.set_iparm(place, value)
    try:
        engine.set_phase(12)
        engine._call_pardiso(upper, np.zeros((upper.shape[0], 1)))
        engine.set_phase(33)
        for first in range(0, right.shape[1], BLOCK):
            block = np.asfortranarray(right[1:, first : first + BLOCK])
            right[1:, first : first + BLOCK] = engine._call_pardiso(upper, block)
            right[0, first : first + BLOCK] = 0
            tick(block.shape[1])
    finally:
        engine.free_memory(everything=True)


@contextmanager
def _bar(total: int, progress: bool) -> Iterator[Callable[[int], None]]:
    """Give a function that moves a progress bar over the right-hand sides, or does nothing."""
    if not progress:
        yield lambda done: None
        return
    from rich.progress import Progress

    with Progress() as shown:
        task = shown.add_task("transfer matrix", total=total)
        yield lambda done: shown.advance(task, done)


# --- what sensors read ------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _read_flux(first, last, corners, elements, flux, points, directions, start, out):  # type: ignore[no-untyped-def]
    """Add to out (coil, node) what coils first..last read of the volume currents of each hat function.

    A coil within a few element sizes sees the element by four points instead of its middle.
    """
    point = np.empty(3)
    for coil in range(first, last):
        for e in range(len(elements)):
            one = two = 0.0
            for i in range(3):
                one += (corners[e, 1, i] - corners[e, 0, i]) ** 2
                two += (corners[e, 3, i] - corners[e, 2, i]) ** 2
            size = max(one, two)
            wx = wy = wz = 0.0
            for q in range(start[coil], start[coil + 1]):
                square = 0.0
                for i in range(3):
                    middle = corners[e, 0, i] + corners[e, 1, i] + corners[e, 2, i] + corners[e, 3, i]
                    point[i] = points[q, i] - 0.25 * middle
                    square += point[i] * point[i]
                count = 4 if square < 36 * size else 1
                for k in range(count):
                    x, y, z = point[0], point[1], point[2]
                    if count == 4:
                        # Degree 2: the middle moved towards each corner.
                        x = INWARDS * x + (1 - INWARDS) * (points[q, 0] - corners[e, k, 0])
                        y = INWARDS * y + (1 - INWARDS) * (points[q, 1] - corners[e, k, 1])
                        z = INWARDS * z + (1 - INWARDS) * (points[q, 2] - corners[e, k, 2])
                    r2 = x * x + y * y + z * z
                    weight = MU0_4PI / (count * r2 * np.sqrt(r2))
                    u, v, w = directions[q, 0], directions[q, 1], directions[q, 2]
                    wx += weight * (y * w - z * v)
                    wy += weight * (z * u - x * w)
                    wz += weight * (x * v - y * u)
            for k in range(4):
                out[coil, elements[e, k]] -= flux[e, k, 0] * wx + flux[e, k, 1] * wy + flux[e, k, 2] * wz


@njit(cache=True, nogil=True)
def _read_currents(first, last, middle, current, begin, points, directions, owner, gain):  # type: ignore[no-untyped-def]
    """Add to gain (sensor, source, 3) what coils read of the currents (current, 3, moment) that sources drive."""
    for s in range(first, last):
        for c in range(begin[s], begin[s + 1]):
            for q in range(len(points)):
                x, y, z = points[q, 0] - middle[c, 0], points[q, 1] - middle[c, 1], points[q, 2] - middle[c, 2]
                square = x * x + y * y + z * z
                weight = MU0_4PI / (square * np.sqrt(square))
                u, v, w = directions[q, 0], directions[q, 1], directions[q, 2]
                wx, wy, wz = weight * (y * w - z * v), weight * (z * u - x * w), weight * (x * v - y * u)
                for m in range(3):
                    gain[owner[q], s, m] -= current[c, 0, m] * wx + current[c, 1, m] * wy + current[c, 2, m] * wz


# --- transfer ---------------------------------------------------------------------------------------------


def default_cache() -> Path:
    """Return the user's cache folder for transfer matrices."""
    from platformdirs import user_cache_path

    return user_cache_path("bayesinv") / "fem"


@dataclass(frozen=True, eq=False)
class Transfer:
    """What every sensor reads of a unit monopole at every node: one solve per sensor, reused for all sources.

    rows : (node, sensor), V/A for electrodes, T/A (times the weight of the coil) for coils
    head, sensors : that it is made for
    tensors : (element, 3, 3), S/m
    scalp : the outer boundary of the mesh
    across : (element, 4), the element beyond each facet, see `bayesinv.geometry.tetrahedra.neighbours`
    notes : how it came
    """

    rows: Array
    head: Head
    sensors: Sensors
    tensors: Array
    scalp: Surface
    across: Index
    notes: dict[str, str]

    def __post_init__(self) -> None:
        freeze(self.rows, self.tensors, self.across)

    def lead_field(
        self,
        sources: Sources,
        *,
        source_model: str = "subtraction",
        within: Sequence[str] | None = None,
    ) -> LeadField:
        """Return the lead field of sources, at the cost of their right-hand sides only.

        source_model :
            "subtraction", localised: in a patch of elements around the source, inside its compartment, the
            potential of an unbounded conductor is split off (Höltershinken et al. 2024); the most accurate.
            "venant": monopoles on the nodes around the nearest interior node (Buchner et al. 1997, Phys. Med.
            Biol. 42, 1879-1886).
            "partial_integration": the slope of the hat functions at the source (Yan, Nunez & Hart 1991, Med. Biol.
            Eng. Comput. 29, 475-481).
        within : names of the compartments where sources may lie; the innermost if None

        Raises
        ------
        ValueError
            If a source is outside these compartments, or on their boundary: which, and how far.
        """
        one_of("source model", source_model, SOURCE_MODELS)
        names = self.head.names[:1] if within is None else tuple(within)
        chosen = [self.head.names.index(one_of("compartment", name, self.head.names)) for name in names]
        mesh = mesh_of(self.head)
        home = _locate(mesh, chosen, sources.positions, " or ".join(names))
        gain = np.zeros((len(self.sensors), len(sources), 3))
        if source_model == "subtraction":
            self._subtract(mesh, sources.positions, home, gain)
        elif source_model == "venant":
            self._add(_venant(mesh, chosen, sources.positions), gain)
        else:
            self._add(_partial_integration(mesh, home), gain)
        points, directions, owner = _coils(self.sensors)
        if len(points):
            gain += primary_field(sources.positions, points, directions, owner, len(self.sensors))
        return LeadField(gain, self.sensors, sources, "infinity", {**self.notes, "source model": source_model})

    def _add(self, monopoles: csr_matrix, gain: Array) -> None:
        """Add to gain (sensor, source, 3) what sensors read of monopoles (source * 3, node) in A/(A m)."""
        gain += (monopoles @ self.rows).reshape(-1, 3, len(self.sensors)).transpose(2, 0, 1)

    def _subtract(self, mesh: Tetrahedra, positions: Array, home: Index, gain: Array) -> None:
        """Add the gain of localised subtraction but for the primary field of the coils."""
        elements = positive(mesh)
        owned = _elements_of_nodes(elements, len(mesh.nodes))
        _check_distance(mesh, elements, self.across, positions, home, self.head.names)
        points, directions, owner = _coils(self.sensors)
        electric = self.sensors.where("eeg")
        foot, weights = footing(self.sensors, self.scalp)
        foot = self.scalp.triangles[foot]
        area = _areas(self.scalp).sum()
        # A few hundred monopoles per source: some sources at a time bound the memory.
        for chunk in np.array_split(np.arange(len(positions)), len(positions) // 1000 + 1):
            x, at = positions[chunk], home[chunk]
            split = _split(mesh, elements, self.across, owned, self.tensors, x, at, len(points) > 0)
            part = np.zeros((len(self.sensors), len(chunk), 3))
            self._add(split.monopoles, part)
            reads = (split.middle, split.current, split.begin, points, directions, owner, part)
            _shared(_read_currents, len(chunk), *reads)
            # Where the patch reaches the scalp, electrodes read the part that was split off as well.
            for s in np.flatnonzero(split.patch):
                first = split.monopoles.indptr[3 * s]
                share = weights * np.isin(foot, split.monopoles.indices[first : first + split.patch[s]])
                away = np.einsum("ek,eki->ei", weights, mesh.nodes[foot]) - x[s]
                free = _unbounded(away, self.tensors[at[s]])
                part[electric, s] += share.sum(axis=1)[:, None] * free - split.gauge[s] / area
            gain[:, chunk] += part


def transfer(
    head: Head,
    sensors: Sensors,
    *,
    solver: str = "auto",
    cache: Path | str | None = None,
    progress: bool = False,
    tolerance: float = 1e-9,
) -> Transfer:
    """Return the transfer matrix of a head and sensors; it is kept in the folder `cache`, if one is given.

    tolerance : of the relative residual of the iterative solver

    Raises
    ------
    ValueError, MemoryError
        As `lead_field`.
    """
    tensors = conductivity_tensors(head)
    mesh = mesh_of(head)
    across = check_mesh(mesh)
    elements = positive(mesh)
    scalp = Surface(mesh.nodes, elements[:, FACETS][across < 0])
    points, directions, owner = _coils(sensors)
    if len(points):
        within = inside(scalp, points)
        if within.any():
            which = sorted({sensors.names[i] for i in owner[within]})
            raise ValueError(
                f"{len(which)} coils have points inside the head: {', '.join(which[:5])}; check that head and sensors "
                "share one coordinate frame, in metres"
            )
    foot, weights = footing(sensors, scalp)
    choice = choose_solver(len(mesh.nodes), len(elements), len(sensors), solver)
    store = None
    if cache is not None:
        parts = (mesh.nodes, elements, tensors, scalp.triangles[foot], weights, points, directions, owner)
        known = hashlib.sha256(f"1 {choice.name} {tolerance} {sensors.kinds}".encode())
        for array in parts:
            known.update(str(array.shape).encode())
            known.update(np.ascontiguousarray(array).data)
        store = Path(cache) / f"transfer-{known.hexdigest()[:32]}.npy"
    rows = None if store is None else _read(store, (len(mesh.nodes), len(sensors)))
    if rows is None:
        rows = np.zeros((len(mesh.nodes), len(sensors)))
        mean = _mean_over(scalp)
        electric = sensors.where("eeg")
        np.add.at(rows, (scalp.triangles[foot], electric[:, None]), weights)
        rows[:, electric] -= mean[:, None]
        if len(points):
            rows += _coil_functionals(mesh.nodes, elements, tensors, sensors)
        matrix = stiffness(mesh.nodes, elements, tensors)
        with _bar(len(sensors), progress) as tick:
            if choice.name == "pardiso":
                _pardiso(matrix, rows, tick)
            else:
                _conjugate_gradients(matrix, rows, tolerance, tick)
        # The free constant: the mean over the scalp is zero, whichever the solver.
        rows -= mean @ rows
        if store is not None:
            try:
                _write(store, rows)
            except OSError as error:
                warnings.warn(f"the transfer matrix could not be kept in {store.parent}: {error}", stacklevel=2)
    notes = {
        "method": "finite elements, linear tetrahedra",
        **{f"mesh {key}": text for key, text in describe(mesh).items()},
        "conductivities": _tissues(head),
        "solver": f"{choice.name} ({choice.why})",
    }
    return Transfer(rows, head, sensors, tensors, scalp, across, notes)


def _tissues(head: Head) -> str:
    """Return the conductivities as people read them."""

    def one(value: Conductivity) -> str:
        return f"{value[0]:g} radial, {value[1]:g} tangential" if isinstance(value, tuple) else f"{value:g}"

    text = "; ".join(f"{name} {one(value)}" for name, value in zip(head.names, head.conductivities, strict=True))
    return f"{text} S/m" + ("" if head.tensors is None else "; tensors per element take their place")


def _coils(sensors: Sensors) -> tuple[Array, Array, Index]:
    """Return integration points, directions and owners of the coils, empty where there are none."""
    if sensors.points is None or sensors.directions is None or sensors.owner is None:
        return np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, np.int64)
    return np.ascontiguousarray(sensors.points), np.ascontiguousarray(sensors.directions), sensors.owner


def _areas(surface: Surface) -> Array:
    """Return the area (triangle,) of each triangle in m²."""
    a, b, c = (surface.vertices[surface.triangles[:, i]] for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def _mean_over(surface: Surface) -> Array:
    """Return the weights (node,) by which a nodal field gives its mean over a surface."""
    area = np.repeat(_areas(surface) / 3, 3)
    total = np.bincount(surface.triangles.ravel(), area, len(surface.vertices))
    return total / total.sum()


def _coil_functionals(nodes: Array, elements: Index, tensors: Array, sensors: Sensors) -> Array:
    r"""Return what each coil reads (node, sensor) of the volume currents of a potential, T/V.

    -mu0/(4 pi) sum over elements of volume (sigma grad phi x d/|d|³) . direction,   d = point - element
    """
    points, directions, owner = _coils(sensors)
    order = np.argsort(owner, kind="stable")
    start = np.searchsorted(owner[order], np.arange(len(sensors) + 1))
    slope, volume = gradients(nodes, elements)
    flux = slope @ tensors * volume[:, None, None]
    out = np.zeros((len(sensors), len(nodes)))
    fixed = (nodes[elements], elements, flux, points[order], directions[order], start, out)
    _shared(_read_flux, len(sensors), *fixed)
    return out.T


def _read(store: Path, shape: tuple[int, int]) -> Array | None:
    """Return a kept array, or None if there is none of that shape that can be read."""
    try:
        kept = np.load(store, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return kept if kept.shape == shape and kept.dtype == np.float64 else None


def _write(store: Path, array: Array) -> None:
    """Keep an array: under another name until it is whole, so that an interruption leaves nothing broken."""
    store.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=store.parent, prefix=store.stem, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, array)
        os.replace(name, store)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# --- source models ----------------------------------------------------------------------------------------


def _elements_of_nodes(elements: Index, nodes: int) -> tuple[Index, Index]:
    """Return, in compressed rows, the elements around each node."""
    order = np.argsort(elements.ravel(), kind="stable")
    return np.searchsorted(elements.ravel()[order], np.arange(nodes + 1)), order // 4


def _barycentric(nodes: Array, elements: Index, points: Array) -> Array:
    """Return the barycentric coordinates (point, 4) of points, each in its own element."""
    corner = nodes[elements]
    inner = np.linalg.solve((corner[:, 1:] - corner[:, :1]).transpose(0, 2, 1), (points - corner[:, 0])[..., None])
    return np.column_stack([1 - inner.sum(axis=1), inner[..., 0]])


def _locate(mesh: Tetrahedra, chosen: Sequence[int], points: Array, name: str) -> Index:
    """Return the element (point,) of the chosen compartments that holds each point.

    Raises
    ------
    ValueError
        If a point is in none: which, and how far from the nearest node.
    """
    allowed = np.flatnonzero(np.isin(mesh.labels, chosen))
    if not allowed.size:
        raise ValueError(f"the mesh has no element in {name}")
    corner = mesh.nodes[mesh.elements[allowed]]
    middle = corner.mean(axis=1)
    tree = cKDTree(middle)
    reach = float(np.linalg.norm(corner - middle[:, None], axis=2).max())
    home = np.full(len(points), -1)
    left = np.arange(len(points))
    # The element that holds a point is nearly always among those with the nearest middles.
    for count in (12, 64):
        near = np.asarray(tree.query(points[left], k=min(count, len(allowed)))[1]).reshape(len(left), -1)
        for column in near.T:
            inner = _barycentric(mesh.nodes, mesh.elements[allowed[column]], points[left]).min(axis=1) >= -1e-9
            fresh = inner & (home[left] < 0)
            home[left[fresh]] = allowed[column[fresh]]
        left = left[home[left] < 0]
        if not left.size:
            return home
    for i in left:
        near = allowed[tree.query_ball_point(points[i], reach)]
        if len(near):
            inner = _barycentric(mesh.nodes, mesh.elements[near], np.tile(points[i], (len(near), 1))).min(axis=1)
            if inner.max() >= -1e-9:
                home[i] = near[np.argmax(inner)]
    left = left[home[left] < 0]
    if left.size:
        used = np.unique(mesh.elements[allowed])
        away, _ = cKDTree(mesh.nodes[used]).query(points[left])
        raise ValueError(
            f"{left.size} of {len(points)} sources are outside {name}: "
            + ", ".join(
                f"source {i} ({d * 1e3:.2g} mm from its nearest node)" for i, d in zip(left[:5], away, strict=False)
            )
            + (", ..." if left.size > 5 else "")
            + "; move or drop them, check the coordinate frame, or name more compartments by `within`"
        )
    return home


def _check_distance(
    mesh: Tetrahedra, elements: Index, across: Index, points: Array, home: Index, names: Sequence[str]
) -> None:
    """Check that no source lies on the boundary of its compartment, where the subtracted potential is singular.

    Raises
    ------
    ValueError
        If one does: which, and how near.
    """
    corner = mesh.nodes[elements[home]]
    slope, _ = gradients(mesh.nodes, elements[home])
    height = np.einsum("eki,eki->ek", slope, points[:, None] - np.roll(corner, -1, axis=1))
    height /= np.linalg.norm(slope, axis=2)
    beyond = across[home]
    edge = (beyond < 0) | (mesh.labels[beyond] != mesh.labels[home][:, None])
    near = np.where(edge, height, np.inf).min(axis=1)
    bad = np.flatnonzero(near < CLOSEST)
    if bad.size:
        raise ValueError(
            f"{bad.size} of {len(points)} sources lie on the boundary of {names[mesh.labels[home[bad[0]]]]}: "
            + ", ".join(f"source {i} ({near[i] * 1e6:.2g} µm from it)" for i in bad[:5])
            + f"; move them inwards by more than {CLOSEST * 1e6:g} µm, or use source_model='venant'"
        )


def _partial_integration(mesh: Tetrahedra, home: Index) -> csr_matrix:
    """Return monopoles (source * 3, node): the slope of the hat functions at the source."""
    slope, _ = gradients(mesh.nodes, mesh.elements[home])
    start = np.arange(0, 12 * len(home) + 1, 4)
    nodes = np.repeat(mesh.elements[home], 3, axis=0).ravel()
    return csr_matrix((slope.transpose(0, 2, 1).ravel(), nodes, start), shape=(3 * len(home), len(mesh.nodes)))


def _venant(mesh: Tetrahedra, chosen: Sequence[int], positions: Array, reference: float = 0.02) -> csr_matrix:
    """Return monopoles (source * 3, node) on the neighbours of the nearest interior node of the compartments.

    Their moments up to the second order about the source are those of the dipole, in the least squares sense, with
    a small penalty on far monopoles (Buchner et al. 1997; Vorwerk, Hanrath, Wolters & Grasedyck 2019, NeuroImage
    188, 489-503). `reference` in m makes the moments comparable.
    """
    member = np.isin(mesh.labels, chosen)
    count = len(mesh.nodes)
    interior = np.zeros(count, bool)
    interior[mesh.elements[member]] = True
    interior[mesh.elements[~member]] = False
    scalp = np.bincount(mesh.elements[:, FACETS][neighbours(mesh.elements) < 0].ravel(), minlength=count) > 0
    candidate = np.flatnonzero(interior & ~scalp)
    if not candidate.size:
        raise ValueError("the compartment has no node inside; use a finer mesh, or source_model='subtraction'")
    pair = mesh.elements[member][:, EDGES].reshape(-1, 2)
    both = np.vstack([pair, pair[:, ::-1], np.repeat(candidate, 2).reshape(-1, 2)])
    links = coo_matrix((np.ones(len(both), np.int8), (both[:, 0], both[:, 1])), shape=(count, count)).tocsr()
    centre = candidate[cKDTree(mesh.nodes[candidate]).query(positions)[1]]
    power = np.array([p for p in np.ndindex(3, 3, 3) if sum(p) <= 2])
    wanted = np.zeros((len(power), 3))
    wanted[power.sum(axis=1) == 1] = power[power.sum(axis=1) == 1] / reference
    indices, charges, start = [], [], [0]
    for middle, position in zip(centre, positions, strict=True):
        near = links.indices[links.indptr[middle] : links.indptr[middle + 1]]
        away = (mesh.nodes[near] - position) / reference
        moments = np.prod(away[None] ** power[:, None, :], axis=2)
        penalty = 1e-6 * np.diag(np.einsum("ni,ni->n", away, away))
        charge = np.linalg.solve(moments.T @ moments + penalty, moments.T @ wanted)
        for axis in range(3):
            indices.append(near)
            charges.append(charge[:, axis])
            start.append(start[-1] + len(near))
    return csr_matrix((np.concatenate(charges), np.concatenate(indices), start), shape=(3 * len(positions), count))


def _unbounded(away: Array, tensor: Array) -> Array:
    r"""Return the potential (point, axis) in V/(A m) of unit dipoles in an unbounded anisotropic conductor.

    V = M . s / (4 pi sqrt(det sigma) (d . s)^(3/2)),   s = sigma^-1 d
    """
    bent = np.linalg.solve(tensor, away.T).T
    square = np.einsum("pi,pi->p", away, bent)
    return bent / (4 * np.pi * np.sqrt(np.linalg.det(tensor)) * square**1.5)[:, None]


@dataclass(frozen=True, eq=False)
class _Split:
    """The right-hand sides of localised subtraction.

    monopoles : (source * 3, node), nodes of the patch first
    begin : (source + 1,), where the facets of each source begin
    middle, current : (facet, 3) m and (facet, 3, moment) in m: facets between conductivities, and the current that
        the split-off potential leaves there, as seen by coils
    patch : (source,), how many nodes the patch has where it reaches the scalp, else 0
    gauge : (source, 3), integral of the split-off potential over the scalp
    """

    monopoles: csr_matrix
    begin: Index
    middle: Array
    current: Array
    patch: Index
    gauge: Array


def _split(
    mesh: Tetrahedra,
    elements: Index,
    across: Index,
    owned: tuple[Index, Index],
    tensors: Array,
    positions: Array,
    home: Index,
    coils: bool,
    rings: int = 2,
) -> _Split:
    r"""Return the right-hand sides of localised subtraction for sources (source, 3) in the elements `home`.

    V = u + chi V0, where V0 is the potential in an unbounded conductor of the source element's tensor sigma0 and chi
    is 1 on the patch (`rings` layers of elements of the source's compartment) and falls to 0 over the elements
    around it. For every hat function v, the correction u solves

        ∫ sigma grad u . grad v = - ∮patch v n . sigma0 grad V0 - ∫patch (sigma - sigma0) grad V0 . grad v
                                  - ∫around sigma grad(chi V0) . grad v

    Gradients are constant on elements, so that the volume integrals become integrals over facets. Coils read

        -mu0/(4 pi) ∫ sigma grad(chi V0) x K = -mu0/(4 pi) sum over facets of ∮ chi V0 (sigma' - sigma") n x K,

    K being the gradient of the inverse distance; only facets between two conductivities count.

    Reference: Höltershinken, Lange, Erdbrügger, Buschermöhle, Wallois, Buyx, Pursiainen, Vorwerk, Engwer & Wolters
    (2024), The local subtraction approach for EEG and MEG forward modeling, arXiv:2402.10600.
    """
    count = len(positions)
    local = tensors[home]
    inverse = np.ascontiguousarray(np.linalg.inv(local))
    scale = 1 / (4 * np.pi * np.sqrt(np.linalg.det(local)))
    columns, jumps, patch = (np.zeros(count, np.int64) for _ in range(3))
    gauge = np.zeros((count, 3))
    fixed = (mesh.nodes, elements, mesh.labels, across, *owned, tensors, rings, coils, positions, home, inverse, scale)
    counts = (columns, jumps, patch, gauge, _RULE)

    def arrays(first: Index, begin: Index) -> tuple[Index, NDArray[np.int32], Array, Index, Array, Array]:
        filled, facets = int(first[-1]), int(begin[-1])
        charges = np.zeros(filled), begin, np.zeros((facets, 3)), np.zeros((facets, 3, 3))
        return first, np.zeros(filled, np.int32), *charges

    none = np.zeros(count + 1, np.int64)
    room = arrays(none, none)
    _shared(_split_range, count, *fixed, *counts, *room, False)
    full = arrays(np.append(0, np.cumsum(3 * columns)), np.append(0, np.cumsum(jumps)))
    _shared(_split_range, count, *fixed, *counts, *full, True)
    _, indices, charges, begin, middle, current = full
    start = np.concatenate([[0], np.cumsum(np.repeat(columns, 3))])
    monopoles = csr_matrix((charges, indices, start), shape=(3 * count, len(mesh.nodes)))
    return _Split(monopoles, begin, middle, current, patch, gauge)


@njit(cache=True, nogil=True)
def _facet_moments(corner, inverse, normal, flow, rule, stack, out):  # type: ignore[no-untyped-def]
    """Fill out (corner, moment) with the mean over a facet of each corner's hat function times a kernel.

    The kernel is s / r³, or with `flow` normal / r³ - 3 s (d . normal) / r⁵; d from the source, s = inverse d,
    r² = d . s. Pieces near the source are cut in four until they are small against their distance.
    """
    for i in range(3):
        for j in range(3):
            stack[0, i, j] = corner[i, j]
            stack[0, 3 + i, j] = 1.0 if i == j else 0.0
    stack[0, 6, 0] = 1.0
    out[:] = 0.0
    top = 1
    while top > 0:
        top -= 1
        share = stack[top, 6, 0]
        distance = 0.0
        longest = 0.0
        for i in range(3):
            j = (i + 1) % 3
            edge = 0.0
            for c in range(3):
                edge += (stack[top, i, c] - stack[top, j, c]) ** 2
            longest = max(longest, edge)
        for c in range(3):
            distance += ((stack[top, 0, c] + stack[top, 1, c] + stack[top, 2, c]) / 3) ** 2
        if distance < NEAR**2 * longest and share > 0.25**_DEPTH:
            # Middles of the edges, then three corner pieces and, in the place of the whole, the middle one.
            for i in range(3):
                j = (i + 1) % 3
                for part in range(0, 6, 3):
                    for c in range(3):
                        stack[-1, part + i, c] = (stack[top, part + i, c] + stack[top, part + j, c]) / 2
            for i in range(3):
                k = (i + 2) % 3
                for part in range(0, 6, 3):
                    for c in range(3):
                        stack[top + 1 + i, part, c] = stack[top, part + i, c]
                        stack[top + 1 + i, part + 1, c] = stack[-1, part + i, c]
                        stack[top + 1 + i, part + 2, c] = stack[-1, part + k, c]
                stack[top + 1 + i, 6, 0] = share / 4
            for i in range(6):
                for c in range(3):
                    stack[top, i, c] = stack[-1, i, c]
            stack[top, 6, 0] = share / 4
            top += 4
            continue
        for q in range(len(rule)):
            d = (
                rule[q, 0] * stack[top, 0, 0] + rule[q, 1] * stack[top, 1, 0] + rule[q, 2] * stack[top, 2, 0],
                rule[q, 0] * stack[top, 0, 1] + rule[q, 1] * stack[top, 1, 1] + rule[q, 2] * stack[top, 2, 1],
                rule[q, 0] * stack[top, 0, 2] + rule[q, 1] * stack[top, 1, 2] + rule[q, 2] * stack[top, 2, 2],
            )
            s0 = inverse[0, 0] * d[0] + inverse[0, 1] * d[1] + inverse[0, 2] * d[2]
            s1 = inverse[1, 0] * d[0] + inverse[1, 1] * d[1] + inverse[1, 2] * d[2]
            s2 = inverse[2, 0] * d[0] + inverse[2, 1] * d[1] + inverse[2, 2] * d[2]
            square = d[0] * s0 + d[1] * s1 + d[2] * s2
            weight = share * rule[q, 3] / (square * np.sqrt(square))
            if flow:
                turn = 3 * (d[0] * normal[0] + d[1] * normal[1] + d[2] * normal[2]) / square
                s0, s1, s2 = normal[0] - turn * s0, normal[1] - turn * s1, normal[2] - turn * s2
            for k in range(3):
                hat = weight * (
                    rule[q, 0] * stack[top, 3, k] + rule[q, 1] * stack[top, 4, k] + rule[q, 2] * stack[top, 5, k]
                )
                out[k, 0] += hat * s0
                out[k, 1] += hat * s1
                out[k, 2] += hat * s2


@njit(cache=True, nogil=True)
def _differ(tensors, one, two):  # type: ignore[no-untyped-def]
    """Tell whether two elements differ in conductivity; beyond the scalp (-1) there is none."""
    if two < 0:
        return True
    size = tensors[one, 0, 0] + tensors[one, 1, 1] + tensors[one, 2, 2]
    for a in range(3):
        for b in range(3):
            if abs(tensors[one, a, b] - tensors[two, a, b]) > 1e-10 * size:
                return True
    return False


@njit(cache=True, nogil=True)
def _split_range(  # type: ignore[no-untyped-def]
    start_source,
    end_source,
    nodes,
    elements,
    labels,
    across,
    owned_start,
    owned,
    tensors,
    rings,
    coils,
    positions,
    home,
    inverse,
    scale,
    columns,
    jumps,
    patch,
    gauge,
    rule,
    first,
    indices,
    charges,
    begin,
    middle,
    current,
    fill,
):
    """Count (columns, jumps, patch) or, with `fill`, write the right-hand sides of some sources; see `_split`."""
    mark = np.zeros(len(elements), np.int64)
    seen = np.zeros(len(nodes), np.int64)
    place = np.zeros(len(nodes), np.int64)
    found = np.empty(len(elements), np.int64)
    listed = np.empty(len(nodes), np.int64)
    stack = np.empty((3 * _DEPTH + 6, 7, 3))
    corner, moments = np.empty((3, 3)), np.empty((3, 3))
    slope, area, push = np.empty((4, 3)), np.empty((4, 3)), np.empty((3, 3))
    flow = np.empty((3, 3))
    for s in range(start_source, end_source):
        within, around = 2 * s + 1, 2 * s + 2
        # The patch: rings of elements of one compartment; its nodes are listed first.
        inner, known = 1, 0
        found[0] = home[s]
        mark[home[s]] = within
        start = 0
        for ring in range(rings + 1):
            stop = inner
            for i in range(start, stop):
                for k in range(4):
                    node = elements[found[i], k]
                    if seen[node] == within:
                        continue
                    seen[node] = within
                    place[node] = known
                    listed[known] = node
                    known += 1
                    if ring < rings:
                        for o in range(owned_start[node], owned_start[node + 1]):
                            e = owned[o]
                            if mark[e] != within and labels[e] == labels[home[s]]:
                                mark[e] = within
                                found[inner] = e
                                inner += 1
            start = stop
        held = known
        total = inner
        for i in range(held):
            for o in range(owned_start[listed[i]], owned_start[listed[i] + 1]):
                e = owned[o]
                if mark[e] != within and mark[e] != around:
                    mark[e] = around
                    found[total] = e
                    total += 1
        for i in range(inner, total):
            for k in range(4):
                node = elements[found[i], k]
                if seen[node] != within:
                    seen[node] = within
                    place[node] = known
                    listed[known] = node
                    known += 1
        if fill:
            for m in range(3):
                for i in range(known):
                    indices[first[s] + m * known + i] = listed[i]
        else:
            columns[s] = known
            jumps[s] = 0
            patch[s] = 0
        written = 0
        for i in range(total):
            e = found[i]
            other = _differ(tensors, e, home[s])
            if not fill:
                for f in range(4):
                    held_corners = 0
                    for k in range(3):
                        held_corners += place[elements[e, FACETS[f, k]]] < held
                    if held_corners > 0:
                        if across[e, f] < 0:
                            patch[s] = held
                        if coils and across[e, f] < e and _differ(tensors, e, across[e, f]):
                            jumps[s] += 1
                continue
            # Slopes of the hat functions; a facet's outward area is minus three volumes times its corner's slope.
            for k in range(4):
                p, q, r = elements[e, FACETS[k, 0]], elements[e, FACETS[k, 1]], elements[e, FACETS[k, 2]]
                for c in range(3):
                    x, y = (c + 1) % 3, (c + 2) % 3
                    area[k, c] = 0.5 * (
                        (nodes[q, x] - nodes[p, x]) * (nodes[r, y] - nodes[p, y])
                        - (nodes[q, y] - nodes[p, y]) * (nodes[r, x] - nodes[p, x])
                    )
            volume = 0.0
            for c in range(3):
                volume -= area[0, c] * (nodes[elements[e, 0], c] - nodes[elements[e, 1], c]) / 3
            for k in range(4):
                for c in range(3):
                    slope[k, c] = -area[k, c] / (3 * volume)
            push[:] = 0.0
            for f in range(4):
                edge = i < inner and (across[e, f] < 0 or mark[across[e, f]] != within)
                held_corners = 0
                for k in range(3):
                    held_corners += place[elements[e, FACETS[f, k]]] < held
                leap = coils and across[e, f] < e and _differ(tensors, e, across[e, f])
                wanted = held_corners > 0 and (across[e, f] < 0 or i >= inner or (other and e != home[s]) or leap)
                if not (edge or wanted):
                    continue
                for k in range(3):
                    for c in range(3):
                        corner[k, c] = nodes[elements[e, FACETS[f, k]], c] - positions[s, c]
                if edge:
                    _facet_moments(corner, inverse[s], area[f], True, rule, stack, moments)
                    for k in range(3):
                        at = first[s] + place[elements[e, FACETS[f, k]]]
                        for m in range(3):
                            charges[at + m * known] -= scale[s] * moments[k, m]
                if wanted:
                    _facet_moments(corner, inverse[s], area[f], False, rule, stack, moments)
                    size = np.sqrt(area[f, 0] ** 2 + area[f, 1] ** 2 + area[f, 2] ** 2)
                    for m in range(3):
                        value = 0.0
                        for k in range(3):
                            if place[elements[e, FACETS[f, k]]] < held:
                                value += scale[s] * moments[k, m]
                        for c in range(3):
                            push[c, m] += area[f, c] * value
                        if across[e, f] < 0:
                            gauge[s, m] += size * value
                        if leap:
                            for a in range(3):
                                drive = 0.0
                                for b in range(3):
                                    beyond = tensors[across[e, f], a, b] if across[e, f] >= 0 else 0.0
                                    drive += (tensors[e, a, b] - beyond) * area[f, b]
                                current[begin[s] + written, a, m] = drive * value
                    if leap:
                        for c in range(3):
                            centre = (corner[0, c] + corner[1, c] + corner[2, c]) / 3
                            middle[begin[s] + written, c] = positions[s, c] + centre
                        written += 1
            # push is the integral of the gradient of chi V0 over the element.
            for a in range(3):
                for m in range(3):
                    flow[a, m] = 0.0
                    for b in range(3):
                        background = tensors[home[s], a, b] if i < inner else 0.0
                        flow[a, m] += (tensors[e, a, b] - background) * push[b, m]
            if i >= inner or (other and e != home[s]):
                for k in range(4):
                    at = first[s] + place[elements[e, k]]
                    for m in range(3):
                        charges[at + m * known] -= (
                            slope[k, 0] * flow[0, m] + slope[k, 1] * flow[1, m] + slope[k, 2] * flow[2, m]
                        )
