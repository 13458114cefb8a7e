"""Finite elements: linear tetrahedra with a conductivity tensor each, for the potential and the magnetic field.

The potential V of a current dipole M at x0 solves, for every test function v,

    ∫ σ ∇V . ∇v = M . ∇v(x0)

with piecewise linear V and v on a tetrahedral mesh: A V = b. A sensor measures a linear functional s of V, so that one
solution of A t = s per sensor (not per source) gives t . b for every source (Weinstein, Zhukov & Johnson 2000,
Ann. Biomed. Eng. 28, 1059-1066; Wolters, Grasedyck & Hackbusch 2004, Inverse Probl. 20, 1099-1116).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bayesinv.axes import one_of
from bayesinv.forward.fem_transfer import SOURCE_MODELS, transfer
from bayesinv.forward.leadfield import LeadField
from bayesinv.head.head import Head
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources


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
    cache : folder for the transfer matrix, such as `default_cache()`; None stores none
    progress : show a bar over the right-hand sides
    within : names of the compartments where sources may lie; the innermost if None

    The mean potential over the scalp is zero.

    Raises
    ------
    ValueError
        If the head has no sound mesh, a conductivity is not positive, an electrode is far from the scalp, a coil
        is inside the head, or a source is outside its compartment.
    MemoryError
        If the problem needs more memory than there is.
    """
    one_of("source model", source_model, SOURCE_MODELS)
    solved = transfer(head, sensors, solver=solver, cache=cache, progress=progress)
    return solved.lead_field(sources, source_model=source_model, within=within)
