"""Problem: whitened gain and recording on one axis of sensor components, all that a model observes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, Index, freeze, owned, same_axes
from bayesinv.forward.leadfield import LeadField
from bayesinv.head.cortical_field import Matern
from bayesinv.head.parcels import check_labels
from bayesinv.head.parcels import parcels as make_parcels
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.memory import Memory, PickledByFields, cached_property
from bayesinv.problem.account import account_lines
from bayesinv.problem.arrays import check_noise, whitened_arrays
from bayesinv.problem.autocorrelation import Autocorrelation, NoiseTime
from bayesinv.problem.left_out import without_sensors, without_times
from bayesinv.problem.noise import KINDS, Noise
from bayesinv.problem.plausibility import check_gain_norms, check_power, outlying_gains, standardised_map
from bayesinv.problem.plausibility import warn_of_baseline as warn_of
from bayesinv.problem.recording import Recording
from bayesinv.problem.sameness import same_gain
from bayesinv.problem.time_whitening import TimeWhitening
from bayesinv.problem.whitening import inverse_of, parts_by_kind
from bayesinv.problem.windows import Window, samples_of

EXPECTED_SNR = 3.0
"""Amplitude signal-to-noise ratio that the field takes for an average; it sets the width of hyperpriors."""

LENGTH_RANGE = (0.005, 0.1)
"""m, length-scales that may be learned: from the spacing of a fine cortex to half a brain."""

DEFAULT_PARCELS = 60
"""Parcels of the cortex where none were given: about as many as MEG and EEG resolve."""


@dataclass(frozen=True, eq=False)
class Problem(PickledByFields):
    """Whitened gain and recording that share one axis of sensor components.

    After whitening the noise is standard normal (times a scale that a model may learn), so that sensor kinds,
    references and ranks look alike.

    gain : (component, amplitude), 1/(A m); the amplitudes (x, y, z) of a free source lie side by side
    recording : (component, time), in units of the noise
    times : (time,), s
    baseline : (component, sample), recording without response, in units of the noise, or None
    baseline_centred : whether the baseline's mean was subtracted from it, which costs one degree of freedom
    axes : amplitudes per source, 1 (along the normal) or 3 (free orientation)
    whitener : (component, sensor), from SI units of the sensors to components, or None
    error_factor : (component, draw), 1/(A m), or None; its product with its transpose is the covariance of the
        lead field's error times independent currents of variance 1 (A m)²
    gain_modes : (mode, component, amplitude), 1/(A m), or None; what an uncertain gain varies by, see `forward_error`
    labels : (source,), the parcel that each source belongs to, -1 for none; or None, see `with_parcels`
    maps : name to (source,) map of another modality, standardised; see `with_maps`
    baseline_times : (sample,), s; None where the baseline ends one step before the recording starts
    corrected_times : (sample,), s, over which the recording's mean was subtracted; None for a centred baseline's own
    autocorrelation : of the noise over time; None where it is white
    noise_tails : "normal", or "student" for tails of Student's t over sensors and over samples
    sensors, sources, lead_field, noise, field : what the arrays came from, where it is known
    notes : what its account says beside the arrays, by what it is about, such as why channels were left out
    origin : the foreign objects the problem was built from, for conversion back to them; not archived
    """

    gain: Array
    recording: Array
    times: Array
    baseline: Array | None = None
    baseline_centred: bool = False
    axes: int = 1
    whitener: Array | None = None
    error_factor: Array | None = None
    gain_modes: Array | None = None
    labels: Index | None = None
    maps: Mapping[str, Array] = dataclass_field(default_factory=dict)
    baseline_times: Array | None = None
    corrected_times: Array | None = None
    autocorrelation: Autocorrelation | None = None
    noise_tails: str = "normal"
    sensors: Sensors | None = None
    sources: Sources | None = None
    lead_field: LeadField | None = None
    noise: Noise | None = None
    field: Recording | None = None
    notes: Mapping[str, str] = dataclass_field(default_factory=dict)
    origin: Any = None

    def __post_init__(self) -> None:
        for name, axes in (("gain", "component amplitude"), ("recording", "component time"), ("times", "time")):
            object.__setattr__(self, name, owned(name, getattr(self, name), axes))
        same_axes(
            gain=(self.gain, "component amplitude"),
            recording=(self.recording, "component time"),
            times=(self.times, "time"),
        )
        if not self.recording.shape[1]:
            raise ValueError("recording has no samples (time = 0)")
        if (np.diff(self.times) <= 0).any():
            late = int(np.argmax(np.diff(self.times) <= 0)) + 1
            raise ValueError(f"times must increase, but sample {late} is not later than the one before it")
        if not self.gain.size:
            raise ValueError(f"gain has shape {self.gain.shape}: there is nothing to invert")
        if self.axes not in (1, 3):
            raise ValueError(f"axes is {self.axes}, but a source has 1 amplitude (fixed) or 3 (free orientation)")
        if self.gain.shape[1] % self.axes:
            raise ValueError(f"gain has amplitude = {self.gain.shape[1]}, which is no multiple of axes = {self.axes}")
        if self.sources is not None and len(self.sources) * self.axes != self.gain.shape[1]:
            raise ValueError(
                f"gain has amplitude = {self.gain.shape[1]}, but {len(self.sources)} sources with {self.axes} "
                f"axes have {len(self.sources) * self.axes}"
            )
        check_gain_norms(self.source_norms)
        if self.baseline is not None:
            object.__setattr__(self, "baseline", owned("baseline", self.baseline, "component sample"))
            same_axes(gain=(self.gain, "component amplitude"), baseline=(self.baseline, "component sample"))
            if self.baseline_times is not None and len(self.baseline_times) != self.baseline.shape[1]:
                raise ValueError(
                    f"baseline has sample = {self.baseline.shape[1]}, but baseline_times {len(self.baseline_times)}"
                )
            if self.baseline.shape[1] <= int(self.baseline_centred):
                raise ValueError(f"baseline has {self.baseline.shape[1]} samples, too few to learn the noise from")
        for name, axes in (("error_factor", "component draw"), ("gain_modes", "mode component amplitude")):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, owned(name, getattr(self, name), axes))
                same_axes(gain=(self.gain, "component amplitude"), **{name: (getattr(self, name), axes)})
        check_noise(self.noise_tails, self.autocorrelation, self.noise, self.components, self.times)
        for name in ("recording", "baseline"):
            if getattr(self, name) is not None:
                check_power(name, getattr(self, name))
        if self.labels is not None:
            object.__setattr__(self, "labels", check_labels(self.labels, self.source_count))
        maps = {name: standardised_map(name, one, self.source_count) for name, one in self.maps.items()}
        object.__setattr__(self, "maps", maps)
        object.__setattr__(self, "notes", dict(self.notes))
        freeze(self.gain, self.recording, self.times, self.baseline, self.whitener, self.labels)
        freeze(self.error_factor, self.gain_modes)

    def __repr__(self) -> str:
        return account_lines(self)

    @classmethod
    def from_arrays(
        cls,
        gain: ArrayLike,
        recording: ArrayLike,
        noise_cov: ArrayLike | None = None,
        *,
        times: ArrayLike | None = None,
        baseline: ArrayLike | None = None,
        baseline_centred: bool | None = None,
        rank: int | Mapping[str, int] | None = None,
        kinds: Sequence[str] = (),
        names: Sequence[str] | None = None,
        positions: ArrayLike | None = None,
        normals: ArrayLike | None = None,
        sources: Sources | None = None,
        sensors: Sensors | None = None,
        noise_time: NoiseTime = "auto",
        noise_tails: str = "normal",
        averages: float = 1.0,
    ) -> Problem:
        """Whiten plain arrays.

        gain : (sensor, source) along given normals, or (sensor, source, 3) for free orientation; V/(A m),
            T/(A m), T/m/(A m)
        recording : (sensor, time) or (sensor,), V, T, T/m
        noise_cov : (sensor, sensor), or (sensor,) variances, of one trial; None says that gain and recording
            are whitened already
        times : (time,), s; samples are counted where it is not given
        baseline : (sensor, sample), recording without response; the noise scale is learned from it
        baseline_centred : whether the baseline's own mean was subtracted from it and the recording; None to see it
        rank : of the covariance, see `Noise`
        kinds : "eeg", "mag" or "grad" per sensor; EEG and MEG are whitened separately if their covariance is zero
        names : of the sensors
        positions, normals : (source, 3), m; or `sources`
        sensors : names, kinds and positions at once, for pictures
        noise_time : the noise's autocorrelation, see `autocorrelation.chosen`; "auto" estimates it from the baseline
        noise_tails : "normal", or "student", by which bad sensors and samples count for less, see `inference.tails`
        averages : how many trials the recording averages; a fraction where averages were combined

        Raises
        ------
        ValueError
            If a shape does not fit, a value is NaN or infinite, the covariance is no covariance, the rank does
            not fit, a source reaches no sensor, or the units of recording and covariance cannot be the same.
        """
        if sensors is not None:
            names, kinds = sensors.names, sensors.kinds
        if sources is None and positions is not None:
            sources = Sources(np.asarray(positions), None if normals is None else np.asarray(normals))
        whitened = whitened_arrays(
            gain, recording, noise_cov, times, baseline, baseline_centred, rank, kinds, names, averages, noise_time
        )
        problem = cls(**whitened, noise_tails=noise_tails, sensors=sensors, sources=sources)
        problem.warn_of_baseline()
        return problem

    def warn_of_baseline(self) -> None:
        """Warn when the whitened baseline does not look like noise of scale one and mean zero."""
        warn_of(self)

    @cached_property
    def gain_powers(self) -> Array:
        """Squared norms of the gain's columns: (amplitude,), 1/(A m)²."""
        return self.shared.recall("gain powers", (), lambda: np.einsum("cp,cp->p", self.gain, self.gain))

    @cached_property
    def source_norms(self) -> Array:
        """Root mean square, over a source's axes, of its gain columns' norms: (source,), 1/(A m)."""
        return np.asarray(np.sqrt(self.gain_powers.reshape(-1, self.axes).mean(axis=1)))

    @cached_property
    def outliers(self) -> Index:
        """Sources whose gain is more than `OUTLYING_RATIO` times that of their neighbours, largest first.

        Such a source lies on, or outside, a surface of the head model, and its gain is an artefact that upsets scales,
        depth weights and maps. Empty where positions are not known.
        """
        if self.sources is None:
            return np.zeros(0, dtype=np.int64)
        return outlying_gains(self.sources.positions, self.source_norms)

    @cached_property
    def log_norms(self) -> Array:
        """Logarithm of `source_norms` relative to their geometric mean: (source,)."""
        logs = np.log(self.source_norms)
        return np.asarray(logs - logs.mean())

    @cached_property
    def unwhitener(self) -> Array | None:
        """From components back to sensors: (sensor, component), SI units; None where there is no whitener."""
        return None if self.whitener is None else inverse_of(self.whitener)

    @property
    def components(self) -> int:
        """Number of whitened sensor components: the rank of the noise covariance."""
        return len(self.gain)

    @property
    def orientation(self) -> str:
        """ "fixed" along the normals or "free"."""
        return "fixed" if self.axes == 1 else "free"

    @property
    def source_count(self) -> int:
        """Number of source locations."""
        return self.gain.shape[1] // self.axes

    @cached_property
    def signal_power(self) -> float:
        """Mean power per component, in units of the noise, of independent currents of variance 1 (A m)²."""
        return float(np.sum(self.gain_powers) / self.components)

    @property
    def scale_guess(self) -> float:
        """Standard deviation of currents, A m, whose signal-to-noise ratio is what the field expects.

        It depends on the gain alone, never on the recording, so that a prior may use it.
        """
        return float(EXPECTED_SNR / np.sqrt(self.signal_power))

    @property
    def baseline_power(self) -> float | None:
        """Global field power of the whitened baseline; 1 where the covariance belongs to the recording."""
        if self.baseline is None:
            return None
        return float(np.sqrt(np.sum(self.baseline**2) / (self.components * self.baseline_freedom)))

    @cached_property
    def time_whitening(self) -> TimeWhitening | None:
        """Roots of the noise's correlation over time; None where the noise is white."""
        return TimeWhitening.of(self)

    @cached_property
    def white_recording(self) -> Array:
        """The recording with its noise made white over time, too: (component, time)."""
        return self.recording if self.time_whitening is None else self.time_whitening.white(self.recording)

    @cached_property
    def white_baseline(self) -> Array | None:
        """The baseline with its noise made white over time, too: (component, sample or combination of samples)."""
        whitening = self.time_whitening
        return self.baseline if whitening is None or self.baseline is None else whitening.white_baseline(self.baseline)

    @property
    def noise_over_time(self) -> str:
        """What is known of the noise over time, in words."""
        return "white, as given" if self.autocorrelation is None else self.autocorrelation.description

    @property
    def times_of_baseline(self) -> Array:
        """Times of the baseline's samples (sample,), s; (0,) where there is none."""
        if self.baseline_times is not None:
            return self.baseline_times
        if self.baseline is None:
            return np.zeros(0)
        step = float(np.median(np.diff(self.times))) if len(self.times) > 1 else 1.0
        return np.asarray(self.times[0] - step * np.arange(self.baseline.shape[1], 0, -1))

    @property
    def baseline_freedom(self) -> int:
        """Degrees of freedom of a component of the baseline; 0 where there is none."""
        return 0 if self.baseline is None else self.baseline.shape[1] - int(self.baseline_centred)

    @property
    def coords(self) -> dict[str, Any]:
        """Coordinates of a model's axes."""
        coords: dict[str, Any] = {
            "component": np.arange(self.components),
            "time": self.times,
            "source": np.arange(self.source_count),
        }
        if self.axes == 3:
            coords["axis"] = ["x", "y", "z"]
        if self.baseline is not None:
            coords["baseline_sample"] = np.arange(self.baseline.shape[1])
        if self.kinds:
            coords["kind"] = list(self.kinds)
        return coords

    @cached_property
    def memory(self) -> Memory:
        """Results that depend on this recording, computed once."""
        return Memory("recording")

    @cached_property
    def shared(self) -> Memory:
        """Results that depend on this gain alone, computed once; problems that `again` makes share them."""
        return Memory("gain")

    def share(self, other: Problem) -> bool:
        """Share the results computed from another problem's gain, if this has the same gain; return whether it has."""
        if not same_gain(self, other):
            return False
        self.__dict__["shared"] = other.shared
        return True

    def again(
        self,
        recording: ArrayLike,
        times: ArrayLike | None = None,
        baseline: ArrayLike | None = None,
        baseline_centred: bool = False,
    ) -> Problem:
        """Return the problem of another whitened recording of the same sensors and sources.

        Decompositions of the gain are shared, so that none is computed twice.

        recording : (component, time), in units of the noise
        times : (time,), s; this problem's where they are as many, else counted
        baseline, baseline_centred : as in the problem

        Raises
        ------
        ValueError
            If shapes do not fit, or a value is NaN or infinite.
        """
        count = np.shape(recording)[-1] if np.ndim(recording) == 2 else 0
        same = count == len(self.times)
        # Samples of a baseline that are as many lie where these do.
        kept = times is None and same and np.size(baseline) == np.size(self.baseline)  # type: ignore[arg-type]
        return self.with_fields(
            recording=recording,
            times=(self.times if same else np.arange(count)) if times is None else times,
            baseline=baseline,
            baseline_centred=baseline_centred,
            baseline_times=self.baseline_times if kept else None,
            corrected_times=self.corrected_times if kept and baseline_centred else None,
            field=None,
            notes={name: note for name, note in self.notes.items() if name != "baseline"},
        )

    def without(self, sensors: str | int | Sequence[str | int] = (), times: Window | Sequence[Window] = ()) -> Problem:
        """Return the problem without some sensors and samples, such as a check has named, as if never recorded.

        Noise is whitened anew from the covariance of the sensors that are left. Samples that are left keep their
        times, and their noise its correlation. An autocorrelation that the baseline gave is estimated anew.

        sensors : names or indices
        times : s, of the recording or its baseline: one time, a window (start, stop), or a list of either

        Raises
        ------
        ValueError
            If there is no such sensor or sample, none would be left, or the noise covariance is not known.
        """
        return without_times(without_sensors(self, sensors), times)

    def with_maps(self, maps: Mapping[str, ArrayLike]) -> Problem:
        """Return the problem with maps of another modality, such as fMRI, for models that use them.

        maps : name to (source,) values, larger where currents are thought to be larger; they are standardised over
            the sources (mean 0, standard deviation 1)

        Raises
        ------
        ValueError
            If a map holds NaN, has another length than there are sources, or is the same everywhere.
        """
        return self.with_fields(maps=dict(maps))

    def with_parcels(self, parcels: int | ArrayLike | Mapping[str, ArrayLike] | Sequence[Any]) -> Problem:
        """Return the problem with its sources divided into parcels, for models that use them.

        parcels : how many are to be made by clustering along the cortex, or labels: (source,) whole numbers (-1 for
            none), name to indices of sources, or labels of MNE-Python

        Raises
        ------
        ValueError
            If the number does not fit, or labels overlap, are empty or cover nothing.
        """
        if isinstance(parcels, int | np.integer):
            if self.sources is None:
                raise ValueError("parcels are made of sources' positions, but this problem has none; give labels")
            return self.with_fields(labels=make_parcels(self.sources, int(parcels)))
        where = self.source_count if self.sources is None else self.sources
        return self.with_fields(labels=check_labels(parcels, where))

    def with_fields(self, **changes: Any) -> Problem:
        """Return the problem with other values of fields that decompositions of the gain do not depend on."""
        other = replace(self, **changes)
        other.__dict__["shared"] = self.shared
        return other

    @cached_property
    def parcels(self) -> Index:
        """The parcel of each source (source,), -1 for none; `DEFAULT_PARCELS` of them where no others were given."""
        if self.labels is not None:
            return self.labels
        if self.sources is None:
            raise ValueError("this problem has neither parcels nor sources to make them of; see with_parcels")
        sources = self.sources
        return self.shared.recall("parcels", (), lambda: make_parcels(sources, min(DEFAULT_PARCELS, len(sources))))

    @cached_property
    def surface(self) -> Matern:
        """Finite elements of the cortical mesh, on which smooth fields are defined.

        Raises
        ------
        ValueError
            If the sources have no triangles, or those do not make a surface.
        """
        if self.sources is None:
            raise ValueError("a smooth prior wants sources with triangles, but this problem has no sources")
        sources = self.sources
        return self.shared.recall("surface", (), lambda: Matern.of(sources))

    @property
    def length_range(self) -> tuple[float, float]:
        """Shortest and longest length-scale in m that a smooth prior on this cortex may learn."""
        low, high = self.surface.limits
        return max(LENGTH_RANGE[0], low), min(LENGTH_RANGE[1], high)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of sensors that the noise covariance knows ("eeg", "mag", "grad"); () where it knows none."""
        known = () if self.noise is None else self.noise.kinds
        return tuple(kind for kind in KINDS if kind in known)

    @cached_property
    def noise_parts(self) -> Array:
        """Whitened noise covariance by kind of sensor and kind of sensor: (kind, kind, component, component).

            N(s) = Σ_kl s_k s_l parts_kl

        is the covariance of the whitened noise if the noise of the sensors of kind k is s_k times what was given and
        the correlation of sensors is unchanged; all parts sum to the identity.

        Raises
        ------
        ValueError
            If the noise covariance or the kinds of its sensors are not known.
        """
        noise, whitener = self.noise, self.whitener
        if noise is None or whitener is None or not noise.kinds:
            raise ValueError(
                "a noise scale per kind of sensor wants the noise covariance and the kinds of its sensors; "
                "give noise_cov and kinds to from_arrays, or use from_mne"
            )

        return self.shared.recall("noise parts", (), lambda: parts_by_kind(whitener, noise, self.kinds))

    def window(self, start: float | None = None, stop: float | None = None) -> slice:
        """Return the samples whose time lies in [start, stop], in s.

        Raises
        ------
        ValueError
            If the window holds no sample.
        """
        return samples_of(self.times, (start, stop))
