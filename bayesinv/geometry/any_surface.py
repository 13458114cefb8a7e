"""Tetrahedra inside nested surfaces of any shape, by fTetWild."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayesinv.geometry.repair import closed
from bayesinv.geometry.surfaces import Surface, inside
from bayesinv.geometry.tetrahedra import Tetrahedra, check_mesh, compact, largest


def tetrahedralise_any(surfaces: Sequence[Surface], spacing: float, envelope: float = 1e-3) -> Tetrahedra:
    """Return tetrahedra that fill nested surfaces of any shape, by fTetWild (the extra `pytetwild`).

    surfaces : outer boundaries of the compartments, innermost first
    spacing : target edge length, m
    envelope : how far the mesh may leave a surface, as a fraction of the diagonal of its bounding box

    Raises
    ------
    ImportError
        If `pytetwild` is not installed.
    ValueError
        If a surface is open or inverted, or the mesh is not sound.

    Reference: Hu, Schneider, Wang, Zorin & Panozzo (2020), ACM Trans. Graph. 39, 117.
    """
    surfaces = [closed(surface, f"surface {k}", handles=True) for k, surface in enumerate(surfaces)]
    try:
        from pytetwild.pytetwild import tetrahedralize
    except ImportError as error:
        raise ImportError(
            f"surfaces of any shape want pytetwild ({error}): pip install pytetwild pyvista; nested star-shaped "
            "surfaces are filled by `tetrahedralise` without it"
        ) from None
    offset = np.cumsum([0, *(len(surface.vertices) for surface in surfaces)])
    nodes, cells = tetrahedralize(
        np.vstack([surface.vertices for surface in surfaces]),
        np.vstack([surface.triangles + start for surface, start in zip(surfaces, offset[:-1], strict=True)]).astype(
            np.int32
        ),
        edge_length_abs=spacing,
        epsilon=envelope,
        disable_filtering=True,
    )
    nodes, elements = np.asarray(nodes, dtype=np.float64), np.asarray(cells, dtype=np.int64)
    centroid = nodes[elements].mean(axis=1)
    labels = np.full(len(elements), -1)
    for k, surface in reversed(list(enumerate(surfaces))):
        low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
        candidates = np.flatnonzero(((centroid >= low) & (centroid <= high)).all(axis=1))
        labels[candidates[inside(surface, centroid[candidates])]] = k
    mesh = largest(compact(nodes, elements[labels >= 0], labels[labels >= 0]))
    check_mesh(mesh)
    return mesh
