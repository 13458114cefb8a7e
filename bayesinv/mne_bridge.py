"""To and from MNE-Python: the one room that knows its objects.

MNE-Python's conventions hold at this door, so that its numbers come out: channels in the order of the recording's
info, projectors applied to recording, gain and covariance, MEG and EEG whitened apart, ranks as it estimates them,
EEG against the average reference.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array, Index, one_of, real
from bayesinv.forward.leadfield import LeadField
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.noise import Noise
from bayesinv.problem.problem import Problem
from bayesinv.problem.recording import Recording

if TYPE_CHECKING:
    import mne

KINDS = ("eeg", "mag", "grad")
NARROWEST, WIDEST = 0.05, 0.5  # m; a cortex spans more than a decimetre and less than half a metre
LAMBDA2 = 1.0 / 9.0
"""The lambda2 that MNE-Python applies by default, at which an exported operator gives the posterior mean."""

LEAST_FIT = 1e-12
"""Share of a component below which its fit counts as nothing in an exported operator."""

Baseline = Literal["auto"] | tuple[float | None, float | None] | None


@dataclass(frozen=True, eq=False)
class Origin:
    """The MNE-Python objects that a problem was built from.

    info : of the channels used
    """

    info: mne.Info
    forward: mne.Forward
    noise_cov: mne.Covariance


@overload
def from_mne(
    evoked: Sequence[mne.Evoked],
    forward: mne.Forward,
    noise_cov: mne.Covariance,
    *,
    orientation: str = ...,
    picks: str | Sequence[str] | None = ...,
    tmin: float | None = ...,
    tmax: float | None = ...,
    baseline: Baseline = ...,
    rank: int | Mapping[str, int] | None = ...,
    outliers: str = ...,
) -> list[Problem]: ...


@overload
def from_mne(
    evoked: mne.Evoked | mne.BaseEpochs,
    forward: mne.Forward,
    noise_cov: mne.Covariance,
    *,
    orientation: str = ...,
    picks: str | Sequence[str] | None = ...,
    tmin: float | None = ...,
    tmax: float | None = ...,
    baseline: Baseline = ...,
    rank: int | Mapping[str, int] | None = ...,
    outliers: str = ...,
) -> Problem: ...


def from_mne(
    evoked: mne.Evoked | mne.BaseEpochs | Sequence[mne.Evoked],
    forward: mne.Forward,
    noise_cov: mne.Covariance,
    *,
    orientation: str = "fixed",
    picks: str | Sequence[str] | None = None,
    tmin: float | None = None,
    tmax: float | None = None,
    baseline: Baseline = "auto",
    rank: int | Mapping[str, int] | None = None,
    outliers: str = "warn",
) -> Problem | list[Problem]:
    """Whiten a recording and forward solution of MNE-Python.

    Used are the channels of the info that are in the forward and the covariance and that neither marks as bad, with
    all projectors of info and covariance applied, whether active or not.

    evoked : an average, epochs (averaged here), or a list of averages, which gives a list of problems
    forward, noise_cov : forward solution, and covariance of a single trial's noise
    orientation : "fixed" along the normals of the cortex, or "free" (x, y, z of the head)
    picks : "meg", "eeg", "mag" or "grad", or a list of such kinds or of channel names; None for all
    tmin, tmax : the recording's window in s, both ends included. If tmin is None the recording starts after the
        baseline, or with the first sample where there is none
    baseline : the window (start, stop) in s in which there is no response; "auto" takes the one that the average was
        corrected by, or else all until 0 s; None for no baseline. Samples that lie in the recording's window too
        count to the recording
    rank : of the noise covariance, one number or {"meg": ..., "eeg": ...}; None estimates it as MNE-Python does
    outliers : what to do about sources whose gain is many times that of their neighbours, because they lie on or
        outside the skull of the head model: "warn", "drop" or "keep"

    Raises
    ------
    ValueError
        If an object is of the wrong type, holds NaN or infinity, or does not fit the others: no channel in common or
        all of them bad, another unit, no average reference for EEG, sources that are too far apart or too close to be
        a brain, a window without samples, a rank that the covariance does not have.
    Reference: Gramfort et al. (2014), NeuroImage 86, 446-460.
    """
    import mne

    if isinstance(evoked, list | tuple):
        if not evoked:
            raise ValueError("the list of averages is empty; give at least one mne.Evoked")
        options: dict[str, Any] = {"picks": picks, "tmin": tmin, "tmax": tmax, "baseline": baseline, "rank": rank}
        options |= {"orientation": orientation, "outliers": outliers}
        each: list[Any] = [from_mne(one, forward, noise_cov, **options) for one in evoked]
        return each
    if isinstance(evoked, mne.BaseEpochs):
        if not len(evoked):
            raise ValueError("there are no epochs to average; all were dropped")
        evoked = evoked.average()
    _typed("evoked", evoked, mne.Evoked, "mne.Evoked, mne.Epochs or a list of mne.Evoked", "epochs.average() makes one")
    _typed("forward", forward, mne.Forward, "mne.Forward", "mne.read_forward_solution reads one")
    _typed("noise_cov", noise_cov, mne.Covariance, "mne.Covariance", "mne.read_cov reads one")
    assert isinstance(evoked, mne.Evoked)
    if evoked.kind != "average":
        raise ValueError(f"evoked {evoked.comment!r} is a {evoked.kind.replace('_', ' ')}, but an average is wanted")
    one_of("orientation", orientation, ("fixed", "free"))
    one_of("treatment of outliers", outliers, ("warn", "drop", "keep"))
    with mne.use_log_level("ERROR"):
        names = _channels(evoked.info, forward, noise_cov, picks)
        info = mne.pick_info(evoked.info, [evoked.ch_names.index(name) for name in names])
        kinds = tuple(info.get_channel_types())
        main, quiet, centred = _windows(evoked, tmin, tmax, baseline)
        field = real("evoked", evoked.get_data(picks=names), "sensor time")
        lead_field = _lead_field(forward, names, kinds, orientation)
        averages = max(int(evoked.nave), 1)
        noise, project = _noise(info, noise_cov, kinds, rank, averages)
    whitener = noise.whitener @ project
    gain = lead_field.gain.reshape(len(names), -1)
    times = evoked.times[main]
    problem = Problem(
        gain=whitener @ gain,
        recording=whitener @ field[:, main],
        times=times,
        baseline=whitener @ field[:, quiet] if quiet.any() else None,
        baseline_centred=centred,
        axes=lead_field.gain.shape[2],
        whitener=whitener,
        sensors=lead_field.sensors,
        sources=lead_field.sources,
        lead_field=lead_field,
        noise=noise,
        field=Recording(field[:, main], times.copy(), names, averages),
        origin=Origin(info, forward, noise_cov),
    )
    if outliers == "drop" and problem.outliers.size:
        kept = np.setdiff1d(np.arange(problem.source_count), problem.outliers)
        rest = lead_field.restrict(sources=kept)
        whole = problem.gain.reshape(problem.components, problem.source_count, problem.axes)
        with mne.use_log_level("ERROR"):
            origin = Origin(info, _restricted(forward, kept), noise_cov)
        gain = whole[:, kept].reshape(problem.components, -1)
        problem = replace(problem, gain=gain, sources=rest.sources, lead_field=rest, origin=origin)
    elif outliers == "warn" and problem.outliers.size:
        named = ", ".join(str(source) for source in problem.outliers[:5])
        many = len(problem.outliers)
        warnings.warn(
            f"{many} source{'s' * (many > 1)} ({named}{', ...' * (many > 5)}) have gains many times as large as their "
            "neighbours': they lie on or outside the skull of the head model and upset scales and maps; "
            "outliers='drop' leaves them out",
            stacklevel=2,
        )
    problem.warn_of_baseline()
    return problem


def _restricted(forward: mne.Forward, kept: Index) -> mne.Forward:
    """Return the forward solution of some sources, counted over both hemispheres."""
    import mne

    counts = np.cumsum([space["nuse"] for space in forward["src"]])[:-1]
    parts = np.split(np.concatenate([space["vertno"] for space in forward["src"]]), counts)
    which = np.split(np.isin(np.arange(forward["nsource"]), kept), counts)
    vertices = [part[mine] for part, mine in zip(parts, which, strict=True)]
    stand_in = mne.SourceEstimate(np.zeros((len(kept), 1)), vertices, 0.0, 1.0)
    return mne.forward.restrict_forward_to_stc(forward, stand_in)


def _typed(name: str, value: Any, wanted: type, words: str, remedy: str) -> None:
    """Raise unless the value is of the wanted type."""
    if not isinstance(value, wanted):
        came = type(value)
        raise ValueError(
            f"{name} is of type {came.__module__.split('.')[0]}.{came.__name__}, but must be {words}; {remedy}"
        )


def _channels(
    info: mne.Info, forward: mne.Forward, noise_cov: mne.Covariance, picks: str | Sequence[str] | None
) -> tuple[str, ...]:
    """Return the names of the channels to use, in the order of the info."""
    kinds = dict(zip(info["ch_names"], info.get_channel_types(), strict=True))
    names = [name for name in info["ch_names"] if kinds[name] in KINDS]
    if not names:
        raise ValueError("the recording has no EEG, magnetometer or gradiometer channel")
    if picks is not None:
        wanted = [picks] if isinstance(picks, str) else list(picks)
        for pick in wanted:
            if pick not in (*KINDS, "meg") and pick not in kinds:
                one_of("channel or kind of channel", pick, [*KINDS, "meg", *names])
        types = {kind for pick in wanted for kind in (("mag", "grad") if pick == "meg" else (pick,))}
        names = [name for name in names if kinds[name] in types or name in types]
        if not names:
            raise ValueError(f"picks {picks!r} leaves no EEG, magnetometer or gradiometer channel of the recording")
    for what, there, remedy in (
        ("forward", forward["sol"]["row_names"], "compute the forward solution for this recording's channels"),
        ("noise covariance", noise_cov.ch_names, "compute the covariance from this recording's channels"),
    ):
        common = [name for name in names if name in set(there)]
        if not common:
            raise ValueError(
                f"no channel is in common: the recording has {', '.join(names[:3])}, ..., the {what} has "
                f"{', '.join(list(there)[:3])}, ...; {remedy}"
            )
        names = common
    bads = {*info["bads"], *noise_cov["bads"], *forward["info"]["bads"]}
    good = tuple(name for name in names if name not in bads)
    if not good:
        raise ValueError(f"all {len(names)} channels are marked as bad; look at info['bads']")
    if any(kinds[name] == "eeg" for name in good) and not (info["custom_ref_applied"] or _has_reference(info)):
        raise ValueError(
            "EEG wants the average reference, as its forward solution has none of its own; first call "
            'evoked.set_eeg_reference("average", projection=True)'
        )
    return good


def _has_reference(info: mne.Info) -> bool:
    """Whether a projector of the average EEG reference is among the projectors, active or not."""
    from mne.io.constants import FIFF

    return any(item["kind"] == FIFF.FIFFV_PROJ_ITEM_EEG_AVREF for item in info["projs"])


def _windows(
    evoked: mne.Evoked, tmin: float | None, tmax: float | None, baseline: Baseline
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], bool]:
    """Return which samples are recording, which are baseline, and whether the baseline's own mean is subtracted."""
    times, step = evoked.times, 1 / evoked.info["sfreq"]

    def inside(start: float | None, stop: float | None) -> NDArray[np.bool_]:
        low = -np.inf if start is None else start
        high = np.inf if stop is None else stop
        return np.asarray((times >= low - 1e-3 * step) & (times <= high + 1e-3 * step))

    span = f"the recording runs from {times[0]:g} to {times[-1]:g} s"
    if tmin is not None and tmax is not None and tmin > tmax:
        raise ValueError(f"tmin is {tmin:g} s and tmax {tmax:g} s, but tmin must come first")
    corrected = evoked.baseline
    if isinstance(baseline, str):
        one_of("baseline", baseline, ("auto",), " or give (start, stop) in s, or None")
        window = corrected if corrected is not None else (None, 0.0) if times[0] < 0 else None
    else:
        window = baseline
    if window is not None and (not isinstance(window, tuple | list) or len(window) != 2):
        raise ValueError(f"baseline is {baseline!r}, but must be 'auto', None or (start, stop) in s")
    quiet = np.zeros(len(times), dtype=bool) if window is None else inside(*window)
    if quiet.sum() < 2:
        if window is not None and baseline != "auto":
            raise ValueError(f"baseline {window} s holds {quiet.sum()} samples, too few to learn from; {span}")
        quiet[:] = False
    main = inside(tmin, tmax)
    if tmin is None and quiet.any():
        main &= times > times[quiet][-1]
        if not main.any():
            raise ValueError(
                f"no sample comes after the baseline's end at {times[quiet][-1]:g} s"
                f"{'' if tmax is None else f' and before {tmax:g} s'}; {span}: give tmin, or baseline=None"
            )
    if not main.any():
        raise ValueError(f"no sample between {tmin} and {tmax} s; {span}")
    own = False
    if corrected is not None and quiet.any():
        low = times[0] if corrected[0] is None else corrected[0]
        high = times[-1] if corrected[1] is None else corrected[1]
        covered = times[0] <= low + step / 2 and times[-1] >= high - step / 2
        own = covered and bool((inside(low, high) == (quiet & ~main)).all())
    if (quiet & main).any():
        quiet &= ~main
        if quiet.sum() < 2:
            warnings.warn(
                "the recording's window covers the baseline, so no baseline is left to learn the noise from; "
                "give baseline=None if that is meant",
                stacklevel=3,
            )
            quiet[:] = False
    return main, quiet, own


def _noise(
    info: mne.Info,
    noise_cov: mne.Covariance,
    kinds: tuple[str, ...],
    rank: int | Mapping[str, int] | None,
    averages: int,
) -> tuple[Noise, Array]:
    """Return the noise after projection, and the projector (sensor, sensor)."""
    import mne
    from mne.proj import make_projector

    names = info["ch_names"]
    order = [noise_cov.ch_names.index(name) for name in names]
    table = noise_cov["data"]
    covariance = np.diag(table[order]) if noise_cov["diag"] else table[np.ix_(order, order)]
    covariance = real("noise covariance", covariance, "sensor sensor")
    projs = [*info["projs"], *noise_cov["projs"]]
    _, _, directions = make_projector(projs, names)
    electric = np.array([kind == "eeg" for kind in kinds])
    if electric.any() and info["custom_ref_applied"] and not _has_reference(info):
        # Whatever the reference was, nothing is lost of the differences between electrodes.
        extra = electric / np.sqrt(electric.sum())
        vectors, sizes, _ = np.linalg.svd(np.column_stack([directions, extra]), full_matrices=False)
        directions = vectors[:, sizes > 1e-2 * sizes[0]]
    project = np.eye(len(names)) - directions @ directions.T
    covariance = project @ covariance @ project.T
    covariance[np.ix_(electric, ~electric)] = 0.0
    covariance[np.ix_(~electric, electric)] = 0.0
    ranks: int | Mapping[str, int]
    if rank is None:
        known = mne.Covariance(covariance, names, [], projs, 0)
        found = mne.compute_rank(known, None, info=info)
        ranks = {group: sum(int(found[key]) for key in keys if key in found) for group, keys in _MEMBERS.items()}
        ranks = {group: value for group, value in ranks.items() if value}
    else:
        ranks = rank if isinstance(rank, Mapping) else int(rank)
        if isinstance(ranks, Mapping):
            for group in ranks:
                one_of("group of sensors with a rank", group, _MEMBERS)
    return Noise(covariance, kinds, ranks, averages), project


_MEMBERS = {"meg": ("meg", "mag", "grad"), "eeg": ("eeg",)}


def _lead_field(forward: mne.Forward, names: tuple[str, ...], kinds: tuple[str, ...], orientation: str) -> LeadField:
    """Return the gain of these channels, in SI units, EEG against infinity."""
    import mne
    from mne.io.constants import FIFF

    if forward["coord_frame"] != FIFF.FIFFV_COORD_HEAD:
        raise ValueError("the forward solution is not in head coordinates; mne.make_forward_solution makes one that is")
    _check_extent(forward["src"])
    constrained = forward["source_ori"] == FIFF.FIFFV_MNE_FIXED_ORI
    if orientation == "free" and constrained:
        raise ValueError(
            "the forward solution has fixed orientation, so it cannot be asked for free; "
            "read or compute it with free orientation"
        )
    kind = forward["src"].kind
    if orientation == "fixed" and not constrained and kind not in ("surface", "discrete"):
        raise ValueError(f"a {kind} source space has no normals to fix the orientation to; use orientation='free'")
    wanted = forward
    if orientation == "fixed" and not constrained:
        wanted = mne.convert_forward_solution(forward, surf_ori=True, force_fixed=True, use_cps=True)
    elif orientation == "free" and forward["surf_ori"]:
        wanted = mne.convert_forward_solution(forward, surf_ori=False)
    rows = [wanted["sol"]["row_names"].index(name) for name in names]
    table = real("forward", wanted["sol"]["data"][rows], "sensor amplitude")
    axes = 1 if orientation == "fixed" else 3
    normals = np.asarray(wanted["source_nn"], dtype=float) if orientation == "fixed" else None
    return LeadField(
        gain=table.reshape(len(names), -1, axes),
        sensors=_sensors(forward["info"], names, kinds),
        sources=_sources(forward, normals),
        notes={"solver": "MNE-Python"},
    )


def _check_extent(spaces: mne.SourceSpaces) -> None:
    """Check that the surfaces, or places, that the sources are taken from are as wide as a brain."""
    places = np.concatenate([space["rr"] for space in spaces])
    if not np.isfinite(places).all():
        raise ValueError("the forward's source space holds NaN or infinite positions")
    width = float(np.ptp(places, axis=0).max())
    if width > WIDEST:
        raise ValueError(
            f"the source space is {width:.3g} m wide: it looks like mm, where m is wanted; divide positions by 1000"
        )
    if width < NARROWEST:
        words = f"the source space is only {width:.3g} m wide, less than a cortex"
        if spaces.kind in ("surface", "mixed") or width < NARROWEST / 10:
            if len(places) > 1:
                raise ValueError(f"{words}: it looks like m divided by 1000; positions must be in m")
        else:
            warnings.warn(f"{words}; check that positions are in m", stacklevel=4)


def _sensors(info: mne.Info, names: tuple[str, ...], kinds: tuple[str, ...]) -> Sensors:
    """Return the sensors where the forward solution took them to be, in head coordinates."""
    from mne.io.constants import FIFF
    from mne.transforms import apply_trans

    channels = {channel["ch_name"]: channel for channel in info["chs"]}
    positions = np.array([channels[name]["loc"][:3] for name in names], dtype=float)
    device = np.array([channels[name]["coord_frame"] == FIFF.FIFFV_COORD_DEVICE for name in names])
    if device.any():
        if info["dev_head_t"] is None:
            raise ValueError(
                "MEG sensors want the transform from device to head coordinates, but the forward's info has none "
                "(dev_head_t); compute the forward solution from a recording that has one"
            )
        positions[device] = apply_trans(info["dev_head_t"], positions[device])
    return Sensors(names, kinds, positions)


def _sources(forward: mne.Forward, normals: Array | None) -> Sources:
    """Return the sources with what is known of their surface."""
    from mne.io.constants import FIFF

    spaces = forward["src"]
    positions = np.asarray(forward["source_rr"], dtype=float)
    to_mri = np.linalg.inv(forward["mri_head_t"]["trans"])
    subject = spaces[0].get("subject_his_id") or ""
    if spaces.kind != "surface":
        if normals is None and spaces.kind == "discrete":
            normals = np.concatenate([_normals(space) for space in spaces])
        return Sources(positions, normals, to_mri=to_mri, subject=subject)
    if normals is None:
        normals = np.concatenate([_normals(space) for space in spaces])
    hemisphere = [int(space["id"] == FIFF.FIFFV_MNE_SURF_RIGHT_HEMI) for space in spaces]
    counts = [len(space["vertno"]) for space in spaces]
    starts = np.cumsum([0, *counts])
    tables: list[Any] = [_triangles(space) for space in spaces]
    triangles: Index | None = None
    areas: Array | None = None
    if all(table is not None for table in tables):
        triangles = np.concatenate([table + start for table, start in zip(tables, starts, strict=False)])
        corners = positions[triangles]
        size = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
        areas = np.zeros(len(positions))
        np.add.at(areas, triangles.ravel(), np.repeat(size / 3, 3))
    return Sources(
        positions,
        normals,
        triangles,
        areas,
        np.concatenate([space["vertno"] for space in spaces]),
        np.repeat(hemisphere, counts),
        to_mri,
        subject,
    )


def _normals(space: Mapping[str, Any]) -> Array:
    """Return the unit normals of a source space's sources: of their patch of cortex where it is known."""
    if space.get("patch_inds") is None or space.get("pinfo") is None:
        found = np.array(space["nn"][space["vertno"]], dtype=float)
    else:
        found = np.array([space["nn"][space["pinfo"][patch]].sum(axis=0) for patch in space["patch_inds"]])
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def _triangles(space: Mapping[str, Any]) -> Index | None:
    """Return the triangles (triangle, 3) between the sources of a surface, by the sources' numbers in it."""
    table = np.asarray(space.get("use_tris"))
    if table.ndim != 2 or not table.size:
        # All triangles are between sources only where every vertex is one.
        if len(space["vertno"]) != space["np"]:
            return None
        table = np.asarray(space["tris"])
    place = np.full(space["np"], -1, dtype=np.int64)
    place[space["vertno"]] = np.arange(len(space["vertno"]))
    found = place[table.astype(np.int64)]
    return found[(found >= 0).all(axis=1)]


MAPS = ("mean", "sd", "shrinkage", "exceedance", "lower", "upper", "prior_sd")


def to_mne(
    posterior: Posterior, what: str = "mean", threshold: float | None = None, level: float = 0.9
) -> mne.SourceEstimate | mne.VectorSourceEstimate:
    """Return a map of the posterior on MNE-Python's vertices.

    what : "mean", "sd" (A m), "exceedance" (probability that the current exceeds the threshold), "lower" and "upper"
        ends of the credible interval (A m): per time, and per axis x, y, z of the head with free orientation, which
        gives a VectorSourceEstimate. "shrinkage" (mean over the axes) and "prior_sd" (A m, root mean square over the
        axes) hold at all times and give one sample
    threshold : A m, of "exceedance"
    level : probability inside the credible interval

    Raises
    ------
    ValueError
        If there is no such map, "exceedance" has no threshold, or vertices and hemispheres of the sources are not
        known or the samples are not evenly spaced.
    """
    import mne

    one_of("map", what, MAPS)
    sources, times = posterior.problem.sources, posterior.times
    if sources is None or sources.vertices is None or sources.hemispheres is None:
        raise ValueError(
            "MNE-Python wants to know each source's vertex and hemisphere, but these sources have none; "
            "give Sources(..., vertices=, hemispheres=)"
        )
    if what == "exceedance" and threshold is None:
        raise ValueError("exceedance wants a threshold in A m, such as threshold=1e-9")
    steps = np.diff(times)
    if len(steps) and not np.allclose(steps, steps.mean(), rtol=1e-3):
        raise ValueError("MNE-Python wants evenly spaced samples, but these times are not")
    origin = posterior.problem.origin
    alone = 1 / origin.info["sfreq"] if isinstance(origin, Origin) else 1.0
    step = float(steps.mean()) if len(steps) else alone
    if what in ("shrinkage", "prior_sd"):
        table = posterior.shrinkage if what == "shrinkage" else posterior.prior_variance
        table = table if table.ndim == 1 else table.mean(axis=1)
        values = (table if what == "shrinkage" else np.sqrt(table))[:, None]
    elif what == "exceedance":
        values = posterior.exceedance(cast("float", threshold))
    elif what in ("lower", "upper"):
        values = posterior.interval(level)[what == "upper"]
    else:
        values = getattr(posterior, what)
    order = np.lexsort((sources.vertices, sources.hemispheres))
    vertices = [sources.vertices[order][sources.hemispheres[order] == side] for side in (0, 1)]
    kind = mne.SourceEstimate if values.ndim == 2 else mne.VectorSourceEstimate
    return kind(values[order], vertices, tmin=float(times[0]), tstep=step, subject=sources.subject or None)


def to_inverse_operator(
    posterior: Posterior,
    *,
    info: mne.Info | None = None,
    forward: mne.Forward | None = None,
    noise_cov: mne.Covariance | None = None,
) -> mne.minimum_norm.InverseOperator:
    """Return MNE-Python's inverse operator that carries the learned λ, averaged over its posterior.

    `mne.minimum_norm.apply_inverse(evoked, operator, method="MNE")` then gives the posterior mean, at MNE-Python's
    default lambda2 = 1/9. The mean is linear in the recording, `mean = L @ whitened`, whatever is averaged over; with
    the fit G L = U diag(share) Uᵀ the operator holds

        sing² = lambda2 share / (1 - share),   eigen fields Uᵀ,   weighted eigen leads L U (sing² + lambda2) / sing

    so that the residual that MNE-Python returns is the posterior mean's too. Its noise covariance includes the
    learned noise scale. With hyperparameters fixed, "sLORETA" divides by the root of prior minus posterior variance
    and "dSPM" by the noise's share of the mean, as they should; with learned ones both hold on average. A file of
    MNE-Python's keeps single precision.

    info, forward, noise_cov : what the problem was made from; wanted where it does not hold them any more, as after
        loading from disk

    Raises
    ------
    ValueError
        If the objects are not known or not those of the problem, or EEG has a custom reference, which MNE-Python's
        inverse methods refuse.
    """
    import mne

    problem = posterior.problem
    origin = problem.origin if isinstance(problem.origin, Origin) else None
    info = info if info is not None or origin is None else origin.info
    forward = forward if forward is not None or origin is None else origin.forward
    noise_cov = noise_cov if noise_cov is not None or origin is None else origin.noise_cov
    if info is None or forward is None or noise_cov is None:
        raise ValueError(
            "the MNE-Python objects behind this posterior are not known (they are not archived, and plain arrays have "
            "none); give to_inverse_operator(info=, forward=, noise_cov=)"
        )
    if problem.field is None or problem.noise is None or problem.lead_field is None:
        raise ValueError("an inverse operator wants a problem that was made by from_mne")
    names = problem.field.names
    missing = [name for name in names if name not in info["ch_names"] or name not in noise_cov.ch_names]
    if missing:
        raise ValueError(f"info or noise_cov lack {len(missing)} channels of the problem, such as {missing[0]}")
    picked = mne.pick_info(info, [info["ch_names"].index(name) for name in names], verbose="ERROR")
    if picked["custom_ref_applied"] and "eeg" in problem.noise.kinds:
        raise ValueError(
            "MNE-Python's inverse methods refuse EEG with a custom reference; set the average reference as a "
            'projector (evoked.set_eeg_reference("average", projection=True)) before from_mne'
        )
    with mne.use_log_level("ERROR"):
        given = _lead_field(forward, names, problem.noise.kinds, problem.orientation)
        ours = problem.lead_field.gain
        if given.gain.shape != ours.shape or not np.allclose(
            given.gain, ours, rtol=1e-4, atol=1e-6 * np.abs(ours).max()
        ):
            raise ValueError("the forward solution is not the one that this problem was made from")
        if problem.axes == 3 and forward["surf_ori"]:
            forward = mne.convert_forward_solution(forward, surf_ori=False)
        operator = mne.minimum_norm.make_inverse_operator(
            picked,
            forward,
            noise_cov,
            loose=0.0 if problem.axes == 1 else 1.0,
            fixed=problem.axes == 1,
            depth=None,
            rank=_mne_ranks(problem.noise),
        )
        theirs, _ = mne.cov.compute_whitener(operator["noise_cov"], pca=True)
    averages = problem.noise.averages
    # Both whiteners make the same noise white, so they differ by a rotation.
    turn = theirs @ problem.noise.covariance @ problem.noise.whitener.T / np.sqrt(averages)
    if turn.shape[0] != turn.shape[1] or not np.allclose(turn.T @ turn, np.eye(len(turn)), atol=1e-5):
        raise ValueError("the noise covariance is not the one that this problem was made from")
    fields, share, leads = _factors(posterior)
    sing = np.sqrt(LAMBDA2 * share / (1 - share))
    noise = float(np.sqrt(posterior.mixture.weights @ posterior.mixture.noise**2))
    rank, count = len(share), len(names)
    wide = np.zeros((count, count))
    wide[:rank] = (_nearest_rotation(turn) @ fields).T @ _pick_rows(operator["noise_cov"]["eig"] > 0)
    # MNE-Python multiplies the leads by the root of the prior variances, which eLORETA wants to know apart.
    prior = posterior.prior_variance.ravel() * (LAMBDA2 * averages)
    tall = np.zeros((len(leads), count))
    tall[:, :rank] = leads * (np.sqrt(averages) * noise * sing / share) / np.sqrt(prior)[:, None]
    operator["eigen_fields"] = _named(wide, list(names))
    operator["eigen_leads"] = _named(tall, [])
    operator["sing"] = np.concatenate([sing, np.zeros(count - rank)])
    operator["source_cov"]["data"] = prior
    for part in ("data", "eig"):
        operator["noise_cov"][part] = operator["noise_cov"][part] * noise**2
    return operator


def _named(table: Array, columns: list[str]) -> dict[str, Any]:
    """Return a matrix in MNE-Python's form."""
    return {"data": table, "row_names": [], "col_names": columns, "nrow": len(table), "ncol": table.shape[1]}


def _mne_ranks(noise: Noise) -> dict[str, int]:
    """Ranks by MNE-Python's names: one kind of coil alone goes by its own."""
    coils = sorted({kind for kind in noise.kinds if kind != "eeg"})
    return {coils[0] if name == "meg" and len(coils) == 1 else name: rank for name, rank in noise.ranks.items()}


def _pick_rows(kept: NDArray[np.bool_]) -> Array:
    """Return the matrix (component, sensor) that reads the components kept out of all of them."""
    return np.eye(len(kept))[kept]


def _nearest_rotation(matrix: Array) -> Array:
    """Return the rotation nearest to a matrix that is one but for rounding."""
    left, _, right = np.linalg.svd(matrix)
    return np.asarray(left @ right)


def _factors(posterior: Posterior) -> tuple[Array, Array, Array]:
    """Decompose the posterior mean L as a function of the whitened recording.

    Returns U (component, component), the share of each that the mean fits, in (0, 1) and descending, and L U
    (amplitude, component).
    """
    mean = posterior.kernel
    fit = posterior.problem.gain @ mean
    share, fields = np.linalg.eigh((fit + fit.T) / 2)
    leads = mean @ fields
    order = np.argsort(share)[::-1]
    return fields[:, order], np.clip(share[order], LEAST_FIT, 1 - LEAST_FIT), leads[:, order]
