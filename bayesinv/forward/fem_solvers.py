"""Sparse solvers: conjugate gradients with multigrid, Pardiso, and the choice between them by memory."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, triu
from scipy.sparse.csgraph import reverse_cuthill_mckee

from bayesinv.axes import Array, one_of
from bayesinv.forward.threads import thread_count

SOLVERS = ("auto", "pardiso", "cg")
BLOCK_SIZE = 16  # right-hand sides solved together
SMALL = 30_000  # entries of a matrix whose product with a block takes less time than waking threads for it


@dataclass(frozen=True)
class SolverChoice:
    """A solver, the reason for its choice, and the memory in GB that it needs."""

    name: str
    why: str
    gigabytes: float


def choose_solver(nodes: int, elements: int, sensors: int, solver: str = "auto") -> SolverChoice:
    """Return the solver for a mesh, the reason, and the memory it needs.

    "pardiso" factorises with Intel MKL (the extra `pypardiso`, x86 only) and is the faster; "cg" is conjugate
    gradients with algebraic multigrid (pyamg), needs no extra and the least memory.

    Raises
    ------
    ValueError
        If there is no solver of that name.
    ImportError
        If Pardiso is asked for by name and not installed.
    MemoryError
        If the solver needs more memory than there is.
    """
    one_of("solver", solver, SOLVERS)
    # Fill-in of nested dissection in 3-D grows as nodes^(4/3); the constant is measured.
    common = 8e-9 * nodes * (sensors + 4 * BLOCK_SIZE) + 4e-7 * elements + 2e-7 * nodes
    required = {"pardiso": common + 1.3 * (nodes / 177e3) ** (4 / 3), "cg": common + 1e-6 * nodes}
    free = available_memory()
    installed = importlib.util.find_spec("pypardiso") is not None
    if solver == "pardiso" and not installed:
        raise ImportError("solver 'pardiso' wants pypardiso: pip install pypardiso; or use solver='cg'")
    if solver != "auto":
        name, why = solver, "asked for"
    elif not installed:
        name, why = "cg", "pypardiso is not installed"
    elif required["pardiso"] > free:
        name, why = "cg", f"factors of {required['pardiso']:.2g} GB do not fit into {free:.2g} GB"
    else:
        name, why = "pardiso", "pypardiso is installed and the factors fit into memory"
    if required[name] > free:
        other = "" if name == "cg" else ", solver='cg'"
        raise MemoryError(
            f"{nodes} nodes and {sensors} sensors want about {required[name]:.3g} GB by {name}, but {free:.3g} GB are "
            f"free; use a coarser mesh, fewer sensors at a time{other}, or a larger machine"
        )
    return SolverChoice(name, why, required[name])


def available_memory() -> float:
    """Return the available memory in GB, infinite if the system does not report it."""
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


class _ThreadedProduct:
    """The product of a sparse matrix with a block of vectors, rows shared between threads where there are many."""

    def __init__(self, matrix: csr_matrix, pool: ThreadPoolExecutor) -> None:
        threads = thread_count() if matrix.nnz > SMALL else 1
        cuts = np.linspace(0, matrix.shape[0], threads + 1).astype(int)
        self.parts = [(a, b, matrix[a:b]) for a, b in pairwise(cuts) if b > a]
        self.shape, self.dtype, self.pool = matrix.shape, matrix.dtype, pool

    def __call__(self, block: NDArray[Any]) -> NDArray[Any]:
        if len(self.parts) == 1:
            return np.asarray(self.parts[0][2] @ block)
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

        # pyamg draws from NumPy's global generator; a matrix must always give the same cycle, and other users' draws
        # must not change.
        state = np.random.get_state()  # noqa: NPY002
        np.random.seed(0)  # noqa: NPY002
        try:
            # Prolongation is smoothed by a step that each row's own sum bounds: the radius of the spectrum, which pyamg
            # estimates otherwise, takes longer than a block of solutions, and spares no cycle.
            smooth = ("jacobi", {"omega": 4 / 3, "weighting": "local"})
            built = pyamg.smoothed_aggregation_solver(matrix, symmetry="symmetric", max_coarse=300, smooth=smooth)
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
                    _ThreadedProduct(level.A.tocsr().astype(np.float32), pool),
                    _ThreadedProduct(level.P.tocsr().astype(np.float32), pool),
                    _ThreadedProduct(level.R.tocsr().astype(np.float32), pool),
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
        """Return x after two Chebyshev iterations on the upper three quarters of the spectrum (Adams et al. 2003)."""
        matrix, _, _, inverse, top = self.levels[depth]
        middle, half = 0.625 * top, 0.375 * top
        step = inverse * (right if x is None else right - matrix(x)) * np.float32(1 / middle)
        x = step.copy() if x is None else x + step
        rho = half / middle
        next_rho = 1 / (2 * middle / half - rho)
        step = np.float32(next_rho * rho) * step + np.float32(2 * next_rho / half) * (inverse * (right - matrix(x)))
        x += step
        return x


def conjugate_gradients(matrix: csr_matrix, right: Array, tolerance: float, advance: Callable[[int], None]) -> None:
    """Overwrite the columns of `right` by solutions, block by block: conjugate gradients with multigrid.

    The columns of a block share the sparse products. The matrix has the constants as its null space, to which the
    right-hand sides are orthogonal. Nodes are numbered anew, neighbours close to each other, so that what a row of a
    product reads is still in the processor's cache: it takes half the time.
    """
    order = reverse_cuthill_mckee(matrix, symmetric_mode=True)
    matrix = matrix[order][:, order]
    matrix.sort_indices()
    with ThreadPoolExecutor(thread_count()) as pool:
        product, precondition = _ThreadedProduct(matrix, pool), _Multigrid(matrix, pool)
        for first in range(0, right.shape[1], BLOCK_SIZE):
            residual = right[order, first : first + BLOCK_SIZE]
            size = np.linalg.norm(residual, axis=0)
            size[size == 0] = 1
            x = np.zeros_like(residual)
            z = precondition(residual)
            direction = z
            weight = np.einsum("ij,ij->j", residual, z)
            for _ in range(400):
                product_direction = product(direction)
                curvature = np.einsum("ij,ij->j", direction, product_direction)
                step = np.divide(weight, curvature, out=np.zeros_like(weight), where=curvature > 0)
                x += step * direction
                residual -= step * product_direction
                if (np.linalg.norm(residual, axis=0) <= tolerance * size).all():
                    break
                z = precondition(residual)
                previous, weight = weight, np.einsum("ij,ij->j", residual, z)
                direction = z + np.divide(weight, previous, out=np.zeros_like(weight), where=previous > 0) * direction
            else:
                worst = float((np.linalg.norm(residual, axis=0) / size).max())
                raise RuntimeError(
                    f"conjugate gradients did not converge (residual {worst:.2g}, wanted {tolerance:.2g}); the mesh "
                    "has elements of very low quality, see `quality`, or use solver='pardiso'"
                )
            right[order, first : first + BLOCK_SIZE] = x
            advance(x.shape[1])


def pardiso(matrix: csr_matrix, right: Array, advance: Callable[[int], None]) -> None:
    """Overwrite the columns of `right` by solutions, by MKL Pardiso with the first node at zero."""
    # MKL reads this variable on loading; its own choice of threads leaves cores idle in the factorisation.
    os.environ.setdefault("MKL_DYNAMIC", "FALSE")
    import pypardiso

    upper = triu(matrix[1:, 1:], format="csr")
    upper.sort_indices()
    engine = pypardiso.PyPardisoSolver(mtype=2)
    # No defaults; parallel nested dissection; no refinement; two-level factorisation.
    for parameter, value in ((1, 1), (2, 3), (8, 0), (24, 1)):
        engine.set_iparm(parameter, value)
    try:
        engine.set_phase(12)
        engine._call_pardiso(upper, np.zeros((upper.shape[0], 1)))
        engine.set_phase(33)
        for first in range(0, right.shape[1], BLOCK_SIZE):
            block = np.asfortranarray(right[1:, first : first + BLOCK_SIZE])
            right[1:, first : first + BLOCK_SIZE] = engine._call_pardiso(upper, block)
            right[0, first : first + BLOCK_SIZE] = 0
            advance(block.shape[1])
    finally:
        engine.free_memory(everything=True)
