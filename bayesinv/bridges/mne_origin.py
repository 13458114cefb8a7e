"""The MNE-Python objects that a problem came from, for export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mne


@dataclass(frozen=True, eq=False)
class Origin:
    """The MNE-Python objects that a problem was built from.

    info : of the channels used
    """

    info: mne.Info
    forward: mne.Forward
    noise_cov: mne.Covariance

    def pick(self, names: Sequence[str]) -> Origin:
        """Return the objects for some of the channels, by name."""
        import mne

        index = [self.info["ch_names"].index(name) for name in names]
        return replace(self, info=mne.pick_info(self.info, index))
