"""The MNE-Python objects that a problem came from, for export."""

from __future__ import annotations

from dataclasses import dataclass
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
