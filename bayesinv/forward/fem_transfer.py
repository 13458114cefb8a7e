"""The transfer matrix of finite elements: one solution per sensor, reused for all sources and stored on disk."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from bayesinv.atomic import opened_atomically
from bayesinv.axes import Array, Index, freeze, one_of
from bayesinv.forward.fem_assembly import stiffness
from bayesinv.forward.fem_coils import add_current_readings, coil_functionals, coil_points
from bayesinv.forward.fem_dipoles import locate, partial_integration, venant
from bayesinv.forward.fem_solvers import choose_solver, conjugate_gradients, pardiso
from bayesinv.forward.fem_subtraction import check_distance, elements_of_nodes, split_dipoles, unbounded_potential
from bayesinv.forward.leadfield import LeadField
from bayesinv.forward.threads import share_work
from bayesinv.forward.unbounded import primary_field
from bayesinv.geometry.surfaces import Surface, inside, triangle_areas, vertex_areas
from bayesinv.geometry.tetrahedra import FACETS, Tetrahedra, check_mesh, describe, positive
from bayesinv.head.head import Conductivity, Head
from bayesinv.head.sensors import Sensors, project_to_scalp
from bayesinv.head.sources import Sources
from bayesinv.head.tensors import conductivity_tensors, mesh_of
from bayesinv.progress import steps

SOURCE_MODELS = ("subtraction", "venant", "partial_integration")


def default_cache() -> Path:
    """Return the user's cache folder for transfer matrices."""
    from platformdirs import user_cache_path

    return user_cache_path("bayesinv") / "fem"


@dataclass(frozen=True, eq=False)
class Transfer:
    """The transfer matrix from monopoles at nodes to sensors: one solution per sensor, reused for all sources.

    rows : (node, sensor), V/A for electrodes, T/A (times the weight of the coil) for coils
    head, sensors : for which it is computed
    tensors : (element, 3, 3), S/m
    scalp : the outer boundary of the mesh
    across : (element, 4), the element beyond each facet, see `bayesinv.geometry.tetrahedra.neighbours`
    notes : how it was computed
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
            potential of an unbounded conductor is subtracted (Höltershinken et al. 2024); the most accurate.
            "venant": monopoles on the nodes around the nearest interior node (Buchner et al. 1997, Phys. Med.
            Biol. 42, 1879-1886).
            "partial_integration": the gradients of the hat functions at the source (Yan, Nunez & Hart 1991, Med. Biol.
            Eng. Comput. 29, 475-481).
        within : names of the compartments where sources may lie; the innermost if None

        Raises
        ------
        ValueError
            If a source is outside these compartments, or on their boundary.
        """
        one_of("source model", source_model, SOURCE_MODELS)
        names = self.head.names[:1] if within is None else tuple(within)
        chosen = [self.head.names.index(one_of("compartment", name, self.head.names)) for name in names]
        mesh = mesh_of(self.head)
        host = locate(mesh, chosen, sources.positions, " or ".join(names))
        gain = np.zeros((len(self.sensors), len(sources), 3))
        if source_model == "subtraction":
            self._subtract(mesh, sources.positions, host, gain)
        elif source_model == "venant":
            self._add(venant(mesh, chosen, sources.positions), gain)
        else:
            self._add(partial_integration(mesh, host), gain)
        points, directions, owner = coil_points(self.sensors)
        if len(points):
            gain += primary_field(sources.positions, points, directions, owner, len(self.sensors))
        return LeadField(gain, self.sensors, sources, "infinity", {**self.notes, "source model": source_model})

    def _add(self, monopoles: csr_matrix, gain: Array) -> None:
        """Add to gain (sensor, source, 3) the sensors' measurements of monopoles (source * 3, node) in A/(A m)."""
        gain += (monopoles @ self.rows).reshape(-1, 3, len(self.sensors)).transpose(2, 0, 1)

    def _subtract(self, mesh: Tetrahedra, positions: Array, host: Index, gain: Array) -> None:
        """Add the gain of localised subtraction, without the primary field of the coils."""
        elements = positive(mesh)
        elements_around = elements_of_nodes(elements, len(mesh.nodes))
        check_distance(mesh, elements, self.across, positions, host, self.head.names)
        points, directions, owner = coil_points(self.sensors)
        electrodes = self.sensors.where("eeg")
        corners, weights = project_to_scalp(self.sensors, self.scalp)
        corners = self.scalp.triangles[corners]
        area = triangle_areas(self.scalp).sum()
        # There are a few hundred monopoles per source; chunks of sources bound the memory.
        for chunk in np.array_split(np.arange(len(positions)), len(positions) // 1000 + 1):
            chunk_positions, chunk_hosts = positions[chunk], host[chunk]
            split = split_dipoles(
                mesh,
                elements,
                self.across,
                elements_around,
                self.tensors,
                chunk_positions,
                chunk_hosts,
                len(points) > 0,
            )
            part = np.zeros((len(self.sensors), len(chunk), 3))
            self._add(split.monopoles, part)
            shared = (split.middle, split.current, split.begin, points, directions, owner, part)
            share_work(add_current_readings, len(chunk), *shared)
            # If the patch touches the scalp, electrodes there measure the subtracted potential as well.
            for s in np.flatnonzero(split.patch):
                first = split.monopoles.indptr[3 * s]
                on_patch = weights * np.isin(corners, split.monopoles.indices[first : first + split.patch[s]])
                distance = np.einsum("ek,eki->ei", weights, mesh.nodes[corners]) - chunk_positions[s]
                free = unbounded_potential(distance, self.tensors[chunk_hosts[s]])
                part[electrodes, s] += on_patch.sum(axis=1)[:, None] * free - split.gauge[s] / area
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
    """Return the transfer matrix of a head and sensors, stored in the folder `cache` if one is given.

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
    points, directions, owner = coil_points(sensors)
    if len(points):
        is_inside = inside(scalp, points)
        if is_inside.any():
            which = sorted({sensors.names[i] for i in owner[is_inside]})
            raise ValueError(
                f"{len(which)} coils have points inside the head: {', '.join(which[:5])}; check that head and sensors "
                "share one coordinate frame, in metres"
            )
    triangle, weights = project_to_scalp(sensors, scalp)
    choice = choose_solver(len(mesh.nodes), len(elements), len(sensors), solver)
    path = None
    if cache is not None:
        parts = (mesh.nodes, elements, tensors, scalp.triangles[triangle], weights, points, directions, owner)
        digest = hashlib.sha256(f"1 {choice.name} {tolerance} {sensors.kinds}".encode())
        for array in parts:
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        path = Path(cache) / f"transfer-{digest.hexdigest()[:32]}.npy"
    rows = None if path is None else _read(path, (len(mesh.nodes), len(sensors)))
    if rows is None:
        rows = np.zeros((len(mesh.nodes), len(sensors)))
        mean = _mean_over(scalp)
        electrodes = sensors.where("eeg")
        np.add.at(rows, (scalp.triangles[triangle], electrodes[:, None]), weights)
        rows[:, electrodes] -= mean[:, None]
        if len(points):
            rows += coil_functionals(mesh.nodes, elements, tensors, sensors)
        matrix = stiffness(mesh.nodes, elements, tensors)
        with steps("transfer matrix", len(sensors), progress) as advance:
            if choice.name == "pardiso":
                pardiso(matrix, rows, advance)
            else:
                conjugate_gradients(matrix, rows, tolerance, advance)
        # The free constant: the mean over the scalp is zero, whichever the solver.
        rows -= mean @ rows
        if path is not None:
            try:
                _write(path, rows)
            except OSError as error:
                warnings.warn(f"the transfer matrix could not be kept in {path.parent}: {error}", stacklevel=2)
    notes = {
        "method": "finite elements, linear tetrahedra",
        **{f"mesh {key}": text for key, text in describe(mesh).items()},
        "conductivities": _conductivity_text(head),
        "solver": f"{choice.name} ({choice.why})",
    }
    return Transfer(rows, head, sensors, tensors, scalp, across, notes)


def _conductivity_text(head: Head) -> str:
    """Return the conductivities as text."""

    def one(value: Conductivity) -> str:
        return f"{value[0]:g} radial, {value[1]:g} tangential" if isinstance(value, tuple) else f"{value:g}"

    text = "; ".join(f"{name} {one(value)}" for name, value in zip(head.names, head.conductivities, strict=True))
    return f"{text} S/m" + ("" if head.tensors is None else "; tensors per element take their place")


def _mean_over(surface: Surface) -> Array:
    """Return the weights (node,) of the mean of a nodal field over a surface."""
    total = vertex_areas(surface)
    return total / total.sum()


def _read(path: Path, shape: tuple[int, int]) -> Array | None:
    """Return a stored array, or None if there is none of that shape that can be read."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == np.float64 else None


def _write(path: Path, array: Array) -> None:
    """Write an array to a file that appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened_atomically(path) as file:
        np.save(file, array)
