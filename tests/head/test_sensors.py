"""Sensors: electrodes on the scalp, coils with their integration points, arrays of cells."""

from functools import partial

import mne
import numpy as np
import pytest
from forward_laws import CONDUCTIVITIES, RADII, both, coils, electrodes, sources, spiral
from numpy.testing import assert_allclose

from bayesinv.forward import sphere, unbounded
from bayesinv.geometry.surfaces import Surface, inside, nearest
from bayesinv.head.head import Head
from bayesinv.head.sensors import Sensors, sensors_from_info, sensors_from_montage

HEAD = Head.spheres(RADII, CONDUCTIVITIES, subdivisions=3)
SCALP = HEAD.surfaces[-1]


def made_up_info(types=("planar", "mag", "eeg"), seed=0):
    """An info of Neuromag planar gradiometers, magnetometers, CTF gradiometers and electrodes at random places."""
    fiff = mne.io.constants.FIFF
    coil = {
        "planar": (fiff.FIFFV_COIL_VV_PLANAR_T1, "grad"),
        "mag": (fiff.FIFFV_COIL_VV_MAG_T1, "mag"),
        "ctf": (fiff.FIFFV_COIL_CTF_GRAD, "mag"),
        "eeg": (None, "eeg"),
    }
    info = mne.create_info([f"C{i}" for i in range(len(types))], 100.0, [coil[t][1] for t in types], verbose=False)
    rng = np.random.default_rng(seed)
    for channel, kind, place in zip(info["chs"], types, spiral(len(types), 0.115, 0.0), strict=True):
        frame, _ = np.linalg.qr(np.column_stack([place, rng.normal(size=(3, 2))]))
        up = place / np.linalg.norm(place)
        one = frame[:, 1]
        channel["loc"] = np.concatenate([place, one, np.cross(up, one), up])
        if coil[kind][0] is None:
            channel["loc"] = np.concatenate([0.092 * up, np.zeros(9)])
        else:
            channel["coil_type"] = coil[kind][0]
    turn = mne.transforms.rotation3d(0.1, -0.2, 0.3)
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform(
            "meg", "head", np.block([[turn, np.array([[0.001], [0.002], [0.003]])], [np.zeros((1, 3)), np.eye(1)]])
        )
    return info


def test_electrodes_move_to_the_closest_point_of_the_scalp():
    off = electrodes(radius=0.097)
    on = off.on(SCALP)
    assert_allclose(nearest(SCALP, on.positions)[2], 0, atol=1e-12)
    assert_allclose(np.linalg.norm(on.positions - off.positions, axis=1), nearest(SCALP, off.positions)[2], rtol=1e-9)
    assert_allclose(Sensors.electrodes(off.names, off.positions, SCALP).positions, on.positions)


def test_coils_stay_where_they_are_when_electrodes_move():
    sensors = both(electrodes(radius=0.097), coils())
    on = sensors.on(SCALP)
    assert_allclose(on.positions[21:], sensors.positions[21:])
    assert_allclose(on.points, sensors.points)


def test_electrodes_far_from_the_scalp_are_named():
    with pytest.raises(ValueError, match=r"2 electrodes are far from the scalp, the farthest b by .* mm"):
        Sensors.electrodes(["a", "b", "c"], [[0, 0.13, 0], [0, 0, 0.2], [0, 0.092, 0]], SCALP)


def test_a_montage_is_taken_to_head_coordinates():
    montage = mne.channels.make_standard_montage("biosemi32")
    sensors = sensors_from_montage(montage)
    info = mne.create_info(montage.ch_names, 100.0, "eeg", verbose=False).set_montage(montage, verbose=False)
    wanted = np.array([channel["loc"][:3] for channel in info["chs"]])
    assert sensors.names == tuple(montage.ch_names)
    assert set(sensors.kinds) == {"eeg"}
    assert_allclose(sensors.positions, wanted, atol=1e-6)
    assert_allclose(sensors_from_info(info).positions, wanted, atol=1e-6)


def test_a_montage_without_a_frame_is_refused():
    montage = mne.channels.make_dig_montage({"a": [0, 0, 0.1]}, coord_frame="mri")
    with pytest.raises(ValueError, match="'mri' coordinates without fiducials"):
        sensors_from_montage(montage)


def test_coils_of_an_info_read_what_mne_computes():
    info = made_up_info(("planar", "mag", "ctf", "planar"))
    sensors = sensors_from_info(info, accuracy="accurate")
    assert sensors.kinds == ("grad", "mag", "mag", "grad")
    dipoles = sources(0.7, 5)
    mine = sphere.lead_field(HEAD, sensors, dipoles).gain
    model = mne.make_sphere_model(r0=(0, 0, 0), head_radius=None, verbose=False)
    space = mne.setup_volume_source_space(pos={"rr": dipoles.positions, "nn": np.array(dipoles.normals)}, verbose=False)
    space[0]["coord_frame"] = mne.io.constants.FIFF.FIFFV_COORD_HEAD
    theirs = mne.make_forward_solution(info, None, space, model, eeg=False, verbose=False)["sol"]["data"]
    for row, wanted in zip(mine, theirs.reshape(mine.shape), strict=True):
        assert_allclose(row, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
    fewer = sphere.lead_field(HEAD, sensors_from_info(info), dipoles).gain
    for row, wanted in zip(fewer, mine, strict=True):
        assert_allclose(row, wanted, rtol=0, atol=0.01 * np.abs(wanted).max())


@pytest.mark.parametrize("solve", [lambda *scene: unbounded.lead_field(0.3, *scene), partial(sphere.lead_field, HEAD)])
def test_a_planar_gradiometer_is_the_difference_of_magnetometers(solve):
    info, dipoles = made_up_info(("planar",)), sources(0.5)
    loc, turn = info["chs"][0]["loc"], info["dev_head_t"]["trans"]
    along, up = turn[:3, :3] @ loc[3:6], turn[:3, :3] @ loc[9:]
    # The loops lie 0.3 mm above the chip's position, and their centres 16.8 mm apart.
    centre, separation = turn[:3, :3] @ loc[:3] + turn[:3, 3] + 3e-4 * up, 0.0168

    def slope(baseline):
        seats = centre + baseline / 2 * np.outer([1, -1], along)
        pair = solve(Sensors.magnetometers(["+", "-"], seats, np.array([up, up])), dipoles).gain
        return (pair[0] - pair[1]) / baseline

    # T/m is the difference of the two loops over their distance.
    exact = solve(sensors_from_info(info, accuracy="point"), dipoles).gain[0]
    assert_allclose(exact, slope(separation), rtol=0, atol=1e-6 * np.abs(exact).max())
    # Square loops of that size read the slope at their middle to some percent.
    stacked = solve(sensors_from_info(info, accuracy="accurate"), dipoles).gain[0]
    assert_allclose(stacked, slope(1e-3), rtol=0, atol=0.05 * np.abs(stacked).max())


def test_an_info_without_sensors_or_positions_is_refused():
    with pytest.raises(ValueError, match="neither EEG nor MEG"):
        sensors_from_info(mne.create_info(["a"], 100.0, "misc", verbose=False))
    with pytest.raises(ValueError, match="no accuracy named 'nornal'"):
        sensors_from_info(made_up_info(), accuracy="nornal")
    with pytest.raises(ValueError, match="channel a has no position"):
        sensors_from_info(mne.create_info(["a"], 100.0, "eeg", verbose=False))


@pytest.mark.parametrize("spacing", [0.02, 0.04])
def test_an_array_of_cells_has_the_density_asked_for(spacing):
    sensors = Sensors.opm(SCALP, spacing, gap=0.006)
    feet = sensors.positions * (0.092 / np.linalg.norm(sensors.positions, axis=1, keepdims=True))
    separation = np.linalg.norm(feet[:, None] - feet[None], axis=2) + np.eye(len(feet))
    assert separation.min() > 0.97 * spacing
    # Nowhere on the upper scalp is a gap as wide as the spacing.
    upper = spiral(2000, 0.092)
    upper = upper[upper[:, 2] > 0.005]
    assert np.linalg.norm(upper[:, None] - feet[None], axis=2).min(axis=1).max() < 1.05 * spacing
    assert_allclose(nearest(SCALP, sensors.positions)[2], 0.006, atol=5e-4)
    assert not inside(SCALP, sensors.positions).any()
    cosine = np.einsum("sa,sa->s", sensors.directions, feet) / 0.092
    assert cosine.min() > 0.99


def test_triaxial_cells_read_three_directions_at_right_angles():
    one, three = Sensors.opm(SCALP, 0.05), Sensors.opm(SCALP, 0.05, axes=3)
    assert len(three) == 3 * len(one)
    frames = three.directions.reshape(-1, 3, 3)
    assert_allclose(frames @ frames.transpose(0, 2, 1), np.tile(np.eye(3), (len(one), 1, 1)), atol=1e-12)
    assert_allclose(frames[:, 0], one.directions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spacing": 0.0}, "must be positive"),
        ({"axes": 2}, "reads 1 or 3"),
        ({"lowest": 0.5}, "no part of the scalp is higher than 0.5 m"),
    ],
)
def test_an_array_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sensors.opm(SCALP, **arguments)


def test_magnetometers_want_unit_directions():
    with pytest.raises(ValueError, match="that of a has 2"):
        Sensors.magnetometers(["a"], np.zeros((1, 3)), np.array([[0, 0, 2.0]]))


def test_stacking_and_picking_are_each_others_inverse():
    one, two, three = electrodes(4), coils(5), Sensors.electrodes(["x"], [[0, 0, 0.09]])
    stacked = Sensors.stack(one, two, three)
    assert stacked.where("eeg").tolist() == [0, 1, 2, 3, 9]
    assert stacked.where("mag", "grad").tolist() == [4, 5, 6, 7, 8]
    again = stacked.pick(np.arange(4, 9))
    assert_allclose(again.points, two.points)
    assert_allclose(again.owner, two.owner)
    with pytest.raises(ValueError, match="come more than once"):
        Sensors.stack(one, one)


def test_a_scalp_that_faces_inwards_still_has_its_sensors_outside():
    wrong = Surface(SCALP.vertices, SCALP.triangles[:, ::-1])
    assert_allclose(Sensors.opm(wrong, 0.05).positions, Sensors.opm(SCALP, 0.05).positions, atol=1e-12)
