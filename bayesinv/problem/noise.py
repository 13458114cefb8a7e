"""Noise: the sensors' covariance, its rank, and the whitener that makes the noise standard normal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh

from bayesinv.axes import Array, Index, freeze, is_number, one_of, real
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.problem.recording import checked_averages

KINDS = ("eeg", "mag", "grad")

MAX_SD_RATIO = 1e4
"""Ratio of standard deviations beyond which sensors must be of different units."""

ROUNDED_SD = 1e-10
"""Standard deviation, relative to the largest of sensors of any unit, below which a sensor has no noise but rounding,
as where projectors take all that it measures."""

RANK_TOLERANCE = 1e-10
"""Relative size, on the scale of the correlation matrix, below which an eigenvalue counts as zero."""


def whole_rank(what: str, value: Any) -> int:
    """Return a rank as a whole number; whether the covariance has it is another question.

    what : whose rank it is, for the error text

    Raises
    ------
    ValueError
        If it is none: another type, a truth value, a fraction, NaN or infinity.
    """
    if not is_number(value) or not -np.inf < value < np.inf or value != int(value):
        raise ValueError(
            f"rank {value!r} was given for {what}, but a rank is a whole number; give one, or leave it out"
        )
    return int(value)


def modality(kind: str) -> str:
    """Return "eeg" for electrodes and "meg" for magnetometers and gradiometers."""
    return "eeg" if kind == "eeg" else "meg"


@dataclass(frozen=True, eq=False)
class Noise(PickledByFields):
    """Covariance of the sensor noise, known up to the scale that a model may learn.

    covariance : (sensor, sensor), product of the sensors' SI units
    kinds : one per sensor ("eeg", "mag", "grad"), or () where all are of one kind
    rank : rank of the covariance: a number, one per modality ({"meg": 300, "eeg": 59}), or None to
        estimate it from the eigenvalues
    averages : the recording averages this many trials, so its noise is the covariance divided by it; a fraction
        where averages were combined

    Where the cross-covariance of MEG and EEG is zero each is whitened separately.
    """

    covariance: Array
    kinds: tuple[str, ...] = ()
    rank: int | Mapping[str, int] | None = None
    averages: float = 1.0

    def __post_init__(self) -> None:
        covariance = real("noise covariance", self.covariance, "sensor sensor")
        if covariance.shape[0] != covariance.shape[1]:
            raise ValueError(f"noise covariance has shape {covariance.shape}, but must be square")
        if not covariance.size:
            raise ValueError("noise covariance is empty: there are no sensors")
        if self.kinds and len(self.kinds) != len(covariance):
            raise ValueError(f"noise covariance has sensor = {len(covariance)}, but there are {len(self.kinds)} kinds")
        for kind in set(self.kinds):
            one_of("sensor kind", kind, KINDS)
        sds = np.sqrt(np.abs(np.diag(covariance)))
        outer = np.where(np.outer(sds, sds) > 0, np.outer(sds, sds), 1)
        asymmetry = np.abs(covariance - covariance.T) / outer
        if asymmetry.max(initial=0) > 1e-6:
            raise ValueError(
                f"noise covariance is not symmetric (relative difference {asymmetry.max():.1e}); "
                "a covariance is, so check how it was made"
            )
        if (np.diag(covariance) < 0).any():
            sensor = int(np.argmin(np.diag(covariance)))
            raise ValueError(
                f"noise covariance is not positive: sensor {sensor} has variance {covariance[sensor, sensor]:.3g}"
            )
        object.__setattr__(self, "averages", checked_averages(self.averages))
        object.__setattr__(self, "covariance", (covariance + covariance.T) / 2)
        freeze(self.covariance)
        self.blocks  # noqa: B018  checks rank and positivity at the door

    @cached_property
    def _groups(self) -> dict[str, Index]:
        """Sensors that are whitened together."""
        one_group = {"sensor": np.arange(len(self.covariance))}
        if not self.kinds:
            return one_group
        names = np.array([modality(kind) for kind in self.kinds])
        groups = {name: np.flatnonzero(names == name) for name in ("meg", "eeg") if (names == name).any()}
        if len(groups) == 1:
            return groups
        crossing = self.covariance[np.ix_(groups["meg"], groups["eeg"])]
        return groups if not crossing.any() else one_group

    @cached_property
    def blocks(self) -> dict[str, tuple[Index, Array, Array]]:
        """Per group of sensors: their indices, the retained eigenvalues, and their vectors (sensor, component)."""
        blocks = {}
        for name, index in self._groups.items():
            block = self.covariance[np.ix_(index, index)] / self.averages
            sds = np.sqrt(np.diag(block))
            units = np.where(sds > ROUNDED_SD * sds.max(), sds, sds.max() or 1)
            correlation_values = np.linalg.eigvalsh(block / np.outer(units, units))
            if correlation_values[-1] <= 0:
                raise ValueError(f"noise covariance of the {name} sensors is zero (rank 0); nothing can be whitened")
            if correlation_values[0] < -1e-6 * correlation_values[-1]:
                raise ValueError(
                    f"noise covariance of the {name} sensors is not positive semidefinite: smallest eigenvalue "
                    f"{correlation_values[0]:.2e} of its correlation matrix; regularise it or give another"
                )
            found = int(np.count_nonzero(correlation_values > RANK_TOLERANCE * correlation_values[-1]))
            rank = self._chosen_rank(name, found)
            scale = self._scale(name, units)
            values, vectors = eigh(block / np.outer(scale, scale))
            positive = int(np.count_nonzero(values > 0))
            if positive < rank:
                whose = "is the rank" if self.rank is None else "was given for the rank"
                raise ValueError(
                    f"{rank} {whose} of the {name} noise covariance, counted in units of each sensor's own noise, but "
                    f"only {positive} of its eigenvalues are positive in SI units; give rank {positive} or less, or "
                    "leave out sensors that have no noise but rounding"
                )
            values, vectors = values[len(index) - rank :], vectors[:, len(index) - rank :] / scale[:, None]
            blocks[name] = (index, values, vectors)
        return blocks

    def _scale(self, name: str, sds: Array) -> Array:
        """Units (sensor,) in which a group's covariance is decomposed.

        EEG and MEG differ by powers of ten in SI units. Sensors of one kind share one unit, so that a direction
        which a projector removed stays orthogonal to the rest, and the whitener maps it to zero.
        """
        if name == "sensor" and self.kinds:
            names = np.array(self.kinds)
            return np.asarray(
                np.max(
                    [np.where(names == kind, sds[names == kind].mean(), 0) for kind in KINDS if kind in names],
                    axis=0,
                )
            )
        if name == "sensor" and sds.max() > MAX_SD_RATIO * sds[sds > 0].min():
            return sds
        return np.ones(len(sds))

    def _chosen_rank(self, name: str, found: int) -> int:
        if self.rank is None:
            return found
        if isinstance(self.rank, Mapping):
            for key in self.rank:
                one_of("group of sensors to give a rank of", key, {"meg", "eeg", *self._groups})
                if key not in self._groups and key not in map(modality, self.kinds):
                    raise ValueError(
                        f"rank {self.rank[key]!r} was given for the {key} sensors, but "
                        f"{'none is one' if self.kinds else 'no kinds of sensors were given'}; give the rank of "
                        "what there is, one number for all sensors, or None"
                    )
            # Correlated MEG and EEG are whitened together, and their ranks add.
            known = {modality(kind) for kind in self.kinds} if name == "sensor" and self.kinds else {name}
            given = [whole_rank(f"the {key} sensors", self.rank[key]) for key in known if key in self.rank]
            if len(given) < len(known):
                return found
            asked = sum(given)
        else:
            asked = whole_rank("all sensors" if name == "sensor" else f"the {name} sensors", self.rank)
            if len(self._groups) > 1:
                raise ValueError(
                    f"rank is one number ({asked}), but MEG and EEG are whitened separately; "
                    'give {"meg": ..., "eeg": ...}'
                )
        if not 0 < asked <= found:
            raise ValueError(
                f"rank {asked} was given for the {name} sensors, but their noise covariance has rank {found}; "
                "it must lie between 1 and that"
            )
        return asked

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Rank per group of sensors that is whitened together."""
        return {name: len(values) for name, (_, values, _) in self.blocks.items()}

    @cached_property
    def whitener(self) -> Array:
        """W (component, sensor), 1/SI unit, with W C Wᵀ = averages × identity of the covariance's rank."""
        rows = []
        for index, values, vectors in self.blocks.values():
            row = np.zeros((len(values), len(self.covariance)))
            row[:, index] = (vectors / np.sqrt(values)).T
            rows.append(row)
        return np.concatenate(rows)

    @cached_property
    def component_modality(self) -> tuple[str, ...]:
        """The group ("meg", "eeg" or "sensor") that each whitened component belongs to."""
        return tuple(name for name, rank in self.ranks.items() for _ in range(rank))
