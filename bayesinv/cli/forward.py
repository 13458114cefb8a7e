"""`bayesinv forward`: a lead field from a head, sensors and sources by name or from files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bayesinv.cli.inputs import parse_numbers
from bayesinv.cli.options import Switch
from bayesinv.cli.outcome import PASSED
from bayesinv.cli.screen import Stages, show_table, show_text
from bayesinv.progress import on_terminal

if TYPE_CHECKING:
    from bayesinv.forward.leadfield import LeadField


def forward(
    *,
    out: Path,
    head: str = "template",
    method: Literal["sphere", "bem", "fem"] | None = None,
    sensors: str = "64",
    sources: str | None = None,
    conductivities: str | None = None,
    radii: str | None = None,
    resolution: Literal["coarse", "fine"] = "fine",
    unit: Literal["m", "cm", "mm"] = "m",
    subject: str | None = None,
    subjects_dir: Path | None = None,
    trans: Path | None = None,
    reference: str | None = None,
    overwrite: Switch = False,
) -> int:
    """Compute a lead field: what every sensor reads of a current at every source.

    Prints, and stores in the file, how it was computed: mesh, conductivities, degree of the series, and how near the
    closest source comes to the surface of its compartment.

    Parameters
    ----------
    out
        File to write: .nc (for `bayesinv.load`), or -fwd.fif (for MNE-Python and `bayesinv fit`).
    head
        template; spheres; subject (of FreeSurfer); or a mesh file (.msh, .vtu ...) in head coordinates.
    method
        sphere, bem or fem. By default what suits the head: bem, sphere, bem, fem.
    sensors
        64 or 32 electrodes; a montage of MNE-Python by name; or a FIF file with channels (EEG, MEG or both).
    sources
        Spacing of the template's cortex (oct4, oct5, oct6, ico3, ico4); a number for a grid of so many mm; or a
        source space of MNE-Python (-src.fif). By default oct5, the subject's own, or a grid of 10 mm.
    conductivities
        S/m, one per compartment from the innermost on, separated by commas.
    radii
        Of the spheres in m, innermost first, separated by commas.
    resolution
        Of the template's finite elements.
    unit
        Of the mesh file.
    subject
        Name of a FreeSurfer subject with surfaces in its folder bem.
    subjects_dir
        Folder of FreeSurfer's subjects.
    trans
        FIF file of the transform between MRI and head (-trans.fif). By default the one in the subject's folder.
    reference
        Of the electrodes: average, or the name of one. By default the solver's (mean over the scalp).
    overwrite
        Replace the file if it is there.
    """
    _check_file(out, overwrite)
    stages = Stages()
    with stages("set scene"):
        from bayesinv.cli import scene
        from bayesinv.forward.gain_files import transfer_folder

        given_radii = parse_numbers("radii", radii)
        built, solver = scene.set_scene(
            head,
            method,
            sensors,
            sources,
            conductivities=parse_numbers("conductivities", conductivities),
            radii=scene.RADII if given_radii is None else given_radii,
            resolution=resolution,
            unit=unit,
            subject=subject,
            subjects_dir=subjects_dir,
            trans=trans,
        )
    with stages(f"solve ({solver})"):
        lead_field = scene.solve(built, solver, cache=transfer_folder(), progress=on_terminal())
        lead_field = lead_field if reference is None else lead_field.rereference(reference)
    with stages("write"):
        _write(lead_field, out, built.info)
    show_table(
        ("", ""),
        lead_field.notes.items(),
        f"Lead field: {len(lead_field.sensors)} sensors, {len(lead_field.sources)} sources",
    )
    show_text(f"wrote {out}")
    return PASSED


def _check_file(out: Path, overwrite: bool) -> None:
    """Raise unless the name says what is to be in the file, and it can be written.

    Raises
    ------
    ValueError
        If the name ends in neither .nc nor -fwd.fif.
    FileExistsError
        If the file is there and may not be replaced.
    FileNotFoundError
        If there is no folder to write it in.
    """
    if not (out.suffix == ".nc" or out.name.endswith(("-fwd.fif", "_fwd.fif"))):
        raise ValueError(f"--out {out} is neither a .nc nor a -fwd.fif file; name it by what is to be in it")
    if out.is_dir() or (out.exists() and not overwrite):
        raise FileExistsError(f"--out {out} is there already; name another file, or give --overwrite to replace it")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.absolute().parent} to write {out.name} in; make it first")


def _write(lead_field: LeadField, out: Path, info: Any) -> None:
    """Write a lead field to a temporary folder beside the file, and move it there when it is complete.

    info : MNE-Python's, of the sensors; None makes one
    """
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}-") as folder:
        part = Path(folder) / out.name
        if out.suffix == ".nc":
            from bayesinv.bridges.archive import save

            save(lead_field, part)
        else:
            from bayesinv.cli.scene import write_fif

            write_fif(lead_field, part, info)
        part.replace(out)
