"""Names, axes and units of every array in a file."""

from __future__ import annotations

FORMAT = "bayesinv"
FORMAT_VERSION = 1
"""Increased when old code can no longer read new files."""

COMPRESSED_SIZE = 10_000
"""Elements from which on an array is compressed."""

UNSAVED_FIELDS = {("Problem", "origin")}
"""Fields that hold objects of other libraries and are not saved."""

AXES = {
    "ActiveSets.node": "active",
    "ActiveSets.patch": "active",
    "ActiveSets.parts": "active part",
    "ActiveSets.shares": "active part | 1",
    "ActiveSets.strength": "active | A m",
    "ActiveSets.constant": "node",
    "ActiveSets.constants": "constant | s",
    "ActiveSets.error": "node | 1",
    "ActiveSets.head": "node gain_mode | 1",
    "ActiveSets.chain": "node",
    "ActiveSets.centre": "patch",
    "ActiveSets.extent": "patch | m",
    "ActiveSets.starts": "start",
    "ActiveSets.members": "member",
    "ActiveSets.weights": "member | 1",
    "Autocorrelation.values": "group lag | 1",
    "Head.tensors": "element row column | S/m",
    "Hyper.nodes": "node",
    "Hyper.draws": "draw",
    "Hyper.weights": "node | 1",
    "LeadField.gain": "sensor source axis | SI unit of the sensor / (A m)",
    "Mixture.weights": "node | 1",
    "Mixture.variance": "node | A2 m2",
    "Mixture.noise": "node | 1",
    "Mixture.which": "node",
    "Noise.covariance": "sensor other_sensor | product of the sensors' SI units",
    "Noise.kinds": "sensor",
    "Posterior.time_weights": "time | 1",
    "Problem.gain": "component amplitude | 1/(A m)",
    "Problem.recording": "component time | 1",
    "Problem.times": "time | s",
    "Problem.baseline": "component sample | 1",
    "Problem.baseline_times": "sample | s",
    "Problem.corrected_times": "corrected | s",
    "Problem.whitener": "component sensor | 1 / SI unit of the sensor",
    "Problem.labels": "source",
    "Problem.maps": "source | 1",
    "Problem.error_factor": "component error | 1/(A m)",
    "Problem.gain_modes": "gain_mode component amplitude | 1/(A m)",
    "Recording.field": "sensor time | SI unit of the sensor",
    "Recording.times": "time | s",
    "Recording.names": "sensor",
    "Sensors.names": "sensor",
    "Sensors.kinds": "sensor",
    "Sensors.positions": "sensor xyz | m",
    "Sensors.points": "point xyz | m",
    "Sensors.directions": "point xyz | 1, or 1/m for gradiometers",
    "Sensors.owner": "point",
    "Sources.positions": "source xyz | m",
    "Sources.normals": "source xyz | 1",
    "Sources.triangles": "triangle corner",
    "Sources.areas": "source | m2",
    "Sources.vertices": "source",
    "Sources.hemispheres": "source",
    "Sources.to_mri": "row column | rotation, and translation in m",
    "Structure.weights": "amplitude | 1",
    "Structure.factor": "amplitude part | 1",
    "Structure.shares": "part | 1",
    "Structure.noise": "kind | 1",
    "Structure.sensor_noise": "sensor | variance of the noise",
    "Structure.sample_noise": "time | variance of the noise",
    "Surface.vertices": "vertex xyz | m",
    "Surface.triangles": "triangle corner",
    "Tetrahedra.nodes": "node xyz | m",
    "Tetrahedra.elements": "element corner",
    "Tetrahedra.labels": "element",
    "Truth.current": "source time | A m",
    "Truth.times": "time | s",
    "Truth.parts": "source",
}
"""Axes of the arrays, and their units after the bar. Other arrays have numbered axes and no units."""

SAVED = frozenset(
    {
        "ActiveSets",
        "Autocorrelation",
        "Head",
        "Hyper",
        "LeadField",
        "Mixture",
        "Noise",
        "Posterior",
        "Problem",
        "Recording",
        "Sensors",
        "Simulation",
        "Sources",
        "Structure",
        "Surface",
        "Tetrahedra",
        "Truth",
        "World",
    }
)
"""Names of the nouns that a file may hold; `archive` checks by name, so that it need not import them."""
