"""The density of the hyperparameters, roughly, by the modes of time of one time constant of the currents."""

from __future__ import annotations

from dataclasses import dataclass

from bayesinv.axes import Array
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.nearby import NearbySpectra, NearbySpectrum
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.prior.density import Density


@dataclass(frozen=True, eq=False)
class NearbyDensity(Density):
    """A density whose evaluations cost no decomposition, good enough to search by.

    spectra : by the modes of time of one time constant
    """

    spectra: NearbySpectra

    @classmethod
    def by_modes_at(cls, density: Density, node: Array) -> NearbyDensity | None:
        """Return the density by the modes of time at an unconstrained node; None where it would save nothing.

        That is where anything beside the time constant shapes the structure, where its modes serve all constants, and
        where they are those of short stretches of a long recording.
        """
        if type(density) is not Density or list(density.observation.learned) != ["time"]:
            return None
        problem = density.observation.problem
        structure = density.structures(density.structural_nodes(node[None])[0])[0]
        if structure.sample_noise is not None or structure.stretches(problem) is not None:
            return None
        modes = structure.modes(problem)
        if modes is None or modes.basis.spread is not None:
            return None
        rough = cls(density.model, density.observation, NearbySpectra(Spectrum.of(problem, structure)))
        # What both know of the model itself.
        vars(rough).update({name: one for name, one in vars(density).items() if name in ("_functions", "_runs")})
        return rough

    def spectrum_of(self, structure: Structure) -> NearbySpectrum:
        """What gives the likelihood of the recording under a structure, and its slope by a time constant."""
        assert structure.time is not None
        return self.spectra.at(structure.time)
