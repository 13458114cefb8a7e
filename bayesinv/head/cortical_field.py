"""A Matérn field on the cortical surface, by the sparse precision of its stochastic partial differential equation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk
from scipy.sparse import csc_matrix, diags
from scipy.sparse.csgraph import connected_components

from bayesinv.axes import Array, Index, freeze, real
from bayesinv.geometry.geodesic import edge_lengths
from bayesinv.head.sources import Sources
from bayesinv.memory import Memory

MIN_AREA_RATIO = 1e-4
"""Area of a triangle over the square of its longest edge below which it is degenerate (equilateral: 0.43)."""

COMPLEX_STEP = 1e-20
"""Imaginary step, relative to κ², of the complex-step derivative of the precision."""

COMPILED = Memory("machine code")


@dataclass(frozen=True, eq=False)
class Matern:
    """The finite element matrices of a Matérn field on the mesh of the sources.

    The field x solves (κ² - Δ) x = white noise along the surface, which in two dimensions has Matérn correlation with
    ν = 1: κd K₁(κd) at the distance d on a plane. On the mesh its precision is, up to scale,

        P = A C⁻¹ A = κ⁴ C + 2 κ² K + K C⁻¹ K,     A = κ² C + K

    stiffness : K (source, source), sparse; of the intrinsic Delaunay triangulation, so no weight is negative
    mass : C (source,), m², the area that each source stands for
    pieces : (source,), the connected piece of the mesh; fields on two pieces are independent
    limits : m, shortest and longest length-scale (see `check_length`)

    Borders are free (Neumann): a field there is smoother than inside.

    References: Lindgren, Rue & Lindström (2011), J. R. Stat. Soc. B 73, 423-498; Sharp & Crane (2020), Comput. Graph.
    Forum 39(5), 69-80 (K and C).
    """

    stiffness: csc_matrix
    mass: Array
    pieces: Index
    limits: tuple[float, float]

    @classmethod
    def of(cls, sources: Sources) -> Matern:
        """Return the matrices of the sources' mesh.

        Raises
        ------
        ValueError
            If there are no triangles, a source lies in none, a triangle is degenerate or spans two hemispheres, an
            edge has more than two triangles, or a hemisphere falls into several pieces.
        """
        if sources.triangles is None or not len(sources.triangles):
            raise ValueError(
                "a smooth prior wants sources with triangles between them, a surface source space; "
                "these have none, so take a prior without neighbours"
            )
        triangles = sources.triangles
        corners = sources.positions[triangles]
        edge_vectors = corners - corners[:, [1, 2, 0]]
        area = np.linalg.norm(np.cross(edge_vectors[:, 0], edge_vectors[:, 1]), axis=1) / 2
        longest = np.linalg.norm(edge_vectors, axis=2).max(axis=1)
        _raise_if_any(
            "triangle",
            np.flatnonzero(area <= MIN_AREA_RATIO * longest**2),
            "degenerate: corners on one line or in one place",
            "mend the mesh, or drop sources that lie on others: lead_field.restrict(sources=...)",
        )
        _raise_if_any(
            "source",
            np.setdiff1d(np.arange(len(sources)), triangles),
            "in no triangle, so without neighbours",
            "drop such sources, lead_field.restrict(sources=...), or add the triangles that hold them",
        )
        if sources.hemispheres is not None:
            hemisphere = sources.hemispheres[triangles]
            _raise_if_any(
                "triangle",
                np.flatnonzero((hemisphere != hemisphere[:, :1]).any(axis=1)),
                "across two hemispheres",
                "drop such triangles, or correct hemispheres",
            )
        edges, shared = np.unique(np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)), axis=0, return_counts=True)
        _raise_if_any(
            "edge",
            [f"{a}-{b}" for a, b in edges[shared > 2]],
            "of more than two triangles",
            "a surface has no sheets that meet; drop triangles that come twice, or mend the mesh",
        )
        lengths = edge_lengths(sources)
        count, pieces = connected_components(lengths, directed=False)
        if sources.hemispheres is not None:
            declared = np.unique(sources.hemispheres)
            if count > len(declared):
                sizes = ", ".join(map(str, np.sort(np.bincount(pieces))[::-1]))
                raise ValueError(
                    f"the mesh falls into {count} pieces (of {sizes} sources), but hemispheres claims {len(declared)}; "
                    "drop the small pieces, lead_field.restrict(sources=...), or give sources without hemispheres if "
                    "the pieces are meant to be independent"
                )
        from robust_laplacian import mesh_laplacian

        stiffness, mass = mesh_laplacian(sources.positions, triangles)
        lumped = np.asarray(mass.diagonal(), dtype=np.float64)
        limits = (float(lengths.data.mean()) / 10, float(np.sqrt(np.bincount(pieces, lumped).max())))
        freeze(lumped, pieces)
        return cls(csc_matrix(stiffness), lumped, pieces.astype(np.int64), limits)

    def at(self, length: float) -> Field:
        """Return the field at a length-scale in m.

        length : the distance at which correlation has fallen to 0.14 (on a plane): κ = √(8ν) / length

        Raises
        ------
        ValueError
            As `check_length` does.
        """
        from scipy.sparse.linalg import splu

        kappa2 = 8 / check_length(length, self) ** 2

        def factor(kappa2: complex) -> Any:
            # A is symmetric and diagonally dominant: no pivoting, and an ordering for symmetric matrices.
            matrix = (self.stiffness + diags(kappa2 * self.mass)).tocsc()
            return splu(matrix, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})

        # P⁻¹ = A⁻¹ C A⁻¹ = -dA⁻¹/dκ², and the diagonal of A⁻¹ follows from the entries of its factor alone.
        diagonal = _inverse_diagonal(factor(kappa2 * (1 + 1j * COMPLEX_STEP)))
        sd = np.sqrt(-diagonal.imag / (kappa2 * COMPLEX_STEP))
        return Field(self, float(length), factor(kappa2), sd)


@dataclass(frozen=True, eq=False)
class Field:
    """Correlation Q (source, source) of the sources at one length-scale: unit diagonal, never formed.

        Q = S⁻¹ A⁻¹ C A⁻¹ S⁻¹

    matern : the mesh
    length : m
    factor : LU of A
    sd : S (source,), m, standard deviation before normalisation to one
    """

    matern: Matern
    length: float
    factor: Any
    sd: Array

    @property
    def nbytes(self) -> int:
        """Bytes of the factor and of the standard deviations."""
        return 12 * int(self.factor.nnz) + self.sd.nbytes

    def __reduce__(self) -> tuple[Callable[[float], Field], tuple[float]]:
        # SuperLU's factors cannot be pickled; they are computed again on unpickling.
        return self.matern.at, (self.length,)

    def product(self, table: Array) -> Array:
        """Return Q @ table, for a table (source, column)."""
        table = self._checked("table", table)
        inner = self.matern.mass[:, None] * self.factor.solve(table / self.sd[:, None])
        return np.asarray(self.factor.solve(inner)) / self.sd[:, None]

    def sample(self, unit: Array) -> Array:
        """Return L @ unit with L Lᵀ = Q, for unit (source, column): fields, if unit is standard normal."""
        unit = self._checked("unit", unit)
        return np.asarray(self.factor.solve(np.sqrt(self.matern.mass)[:, None] * unit)) / self.sd[:, None]

    def gram(self, gain: Array) -> Array:
        """Return gain Q gainᵀ (component, component), for a gain (component, source)."""
        table = self._checked("gain (transposed)", np.transpose(gain))
        half = np.sqrt(self.matern.mass)[:, None] * self.factor.solve(table / self.sd[:, None])
        # SciPy's own BLAS, as the solve: that of NumPy would still hold its threads when the next solve begins.
        upper = dsyrk(1.0, half, trans=1)
        return np.asarray(upper + np.triu(upper, 1).T)

    def _checked(self, name: str, value: Array) -> Array:
        table = real(name, value, "source column")
        if len(table) != len(self.sd):
            raise ValueError(f"{name} has source = {len(table)}, but the mesh has source = {len(self.sd)}")
        return table


def check_length(length: float, matern: Matern) -> float:
    """Return a length-scale in m that the mesh can resolve.

    The shortest is a tenth of the mean edge, where sources are independent (neighbours correlate by about 0.002), as
    they are at every shorter length. The longest is the square root of the area of the largest piece (whose farthest
    ends then correlate by about a half). In between, correlations are those of the discretised field: neighbours have
    about 0.55 at a length of three edges where the plane has 0.63, and at twelve edges 0.02 less than on the plane; the
    difference falls almost as the square of the edge.

    Raises
    ------
    ValueError
        If the length is no positive number or outside these limits.
    """
    if not 0 < length < np.inf:
        raise ValueError(f"length is {length}, but must be positive, in m")
    shortest, longest = matern.limits
    # A limit may come with the rounding error of exp(log(limit)).
    if not shortest * (1 - 1e-9) <= length <= longest * (1 + 1e-9):
        raise ValueError(
            f"length is {length:g} m, but this mesh shows {shortest:.2g} to {longest:.2g} m (a tenth of an edge to the "
            "width of its largest piece); a length in mm must be divided by 1000"
        )
    return float(length)


def _raise_if_any(what: str, found: Any, how: str, remedy: str) -> None:
    """Raise an error that names the elements `found`, if there are any."""
    if len(found):
        some = ", ".join(map(str, found[:5])) + ", ..." * (len(found) > 5)
        raise ValueError(f"{len(found)} {what}{'s are' if len(found) > 1 else ' is'} {how} ({some}); {remedy}")


def _inverse_diagonal(factor: Any) -> NDArray[np.complex128]:
    """Return the diagonal (source,) of the inverse of a symmetric matrix from its LU without pivoting.

    References: Takahashi, Fagan & Chen (1973), 8th PICA Conference, 63-69; Erisman & Tinney (1975), Commun. ACM 18,
    177-179.
    """
    lower = factor.L
    lower.sort_indices()
    inverse = _compiled()(lower.indptr, lower.indices, lower.data, factor.U.diagonal())
    # Row i of the matrix is row perm_r[i] of its factors.
    return np.asarray(inverse[factor.perm_r])


@COMPILED.keep
def _compiled() -> Any:
    """Return the compiled recursion; numba is imported on first use, as it loads slowly."""
    from numba import njit

    return njit(_selected_inverse, cache=True)


def _selected_inverse(
    start: NDArray[np.int32], row: NDArray[np.int32], lower: NDArray[np.complex128], pivot: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """Return the diagonal of (L D Lᵀ)⁻¹ for unit lower triangular L in sorted compressed columns, and D = pivot.

    Z = D⁻¹ L⁻¹ + (1 - Lᵀ) Z, of which only entries in L's pattern are wanted, and only those are needed: from the last
    column to the first, with i, k over the rows of column j below its diagonal,

        Z_ij = -Σ_k Z_ik L_kj,     Z_jj = 1 / D_j - Σ_k L_kj Z_kj
    """
    inverse = np.zeros_like(lower)
    entry = np.full(len(pivot), -1)
    for j in range(len(pivot) - 1, -1, -1):
        first, last = start[j] + 1, start[j + 1]
        for a in range(first, last):
            entry[row[a]] = a
        for a in range(first, last):
            # Column k holds Z_ik for i from k on; the others by symmetry.
            k = row[a]
            inverse[a] -= inverse[start[k]] * lower[a]
            for b in range(start[k] + 1, start[k + 1]):
                i = entry[row[b]]
                if i >= 0:
                    inverse[i] -= inverse[b] * lower[a]
                    inverse[a] -= inverse[b] * lower[i]
        total = 1 / pivot[j]
        for a in range(first, last):
            total -= lower[a] * inverse[a]
            entry[row[a]] = -1
        inverse[start[j]] = total
    return inverse[start[:-1]]
