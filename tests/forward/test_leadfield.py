"""The lead field: directions, references, stacking, and MNE-Python's own inverse on it."""

import mne
import numpy as np
import pytest
from forward_laws import CONDUCTIVITIES, NAMES, RADII, both, coils, electrodes, sources
from numpy.testing import assert_allclose

from bayesinv.forward import sphere
from bayesinv.forward.leadfield import LeadField
from bayesinv.head.head import Head
from bayesinv.head.sources import Sources

HEAD = Head(NAMES, CONDUCTIVITIES, radii=RADII)


@pytest.fixture
def field():
    return sphere.lead_field(HEAD, both(electrodes(11), coils(5)), sources(0.6, 7))


def test_tangential_turns_the_axes_and_nothing_else(field):
    turned, directions = field.tangential()
    assert_allclose(np.einsum("sba,sca->sbc", directions, directions), np.tile(np.eye(3), (7, 1, 1)), atol=1e-12)
    assert_allclose(np.linalg.det(directions), 1)
    assert_allclose(directions[:, 2], field.sources.normals)
    assert_allclose(np.einsum("msb,sba->msa", turned.gain, directions), field.gain, atol=1e-12 * field.gain.max())
    assert_allclose(turned.gain[:, :, [2]], field.fixed().gain, atol=1e-12 * field.gain.max())
    assert np.abs(turned.gain[11:, :, 2]).max() < 1e-10 * np.abs(turned.gain[11:]).max()


def test_tangential_wants_normals_and_three_axes(field):
    with pytest.raises(ValueError, match="normal only"):
        field.fixed().tangential()
    bare = LeadField(field.gain, field.sensors, Sources(field.sources.positions))
    with pytest.raises(ValueError, match="these sources have none"):
        bare.tangential()


def test_the_reference_is_a_matter_of_electrodes(field):
    average, named = field.rereference("average"), field.rereference("E3")
    assert_allclose(average.gain[:11].sum(axis=0), 0, atol=1e-12 * field.gain.max())
    assert_allclose(named.gain[3], 0)
    for other in (average, named):
        assert_allclose(other.gain[11:], field.gain[11:], rtol=0)
        differences = np.diff(other.gain[:11], axis=0)
        assert_allclose(differences, np.diff(field.gain[:11], axis=0), atol=1e-12 * field.gain.max())
    assert_allclose(named.rereference("average").gain, average.gain, atol=1e-12 * field.gain.max())
    assert (field.reference, average.reference, named.reference) == ("infinity", "average", "E3")
    assert average.rereference("average") is average


def test_a_reference_that_cannot_be_is_refused(field):
    with pytest.raises(ValueError, match="against infinity is lost"):
        field.rereference("average").rereference("infinity")
    with pytest.raises(ValueError, match="no electrode named 'M1'"):
        field.rereference("M1")
    with pytest.raises(ValueError, match="there are none among the sensors"):
        field.restrict(sensors=np.arange(11, 16)).rereference("average")


def test_electrodes_and_coils_of_the_same_sources_stack(field):
    parts = [sphere.lead_field(HEAD, s, field.sources) for s in (electrodes(11), coils(5))]
    whole = LeadField.stack(*parts)
    assert_allclose(whole.gain, field.gain, rtol=1e-12)
    assert whole.sensors.names == field.sensors.names
    assert whole.notes["solver"] == "concentric spheres"
    eeg = parts[0].rereference("average")
    assert LeadField.stack(parts[1], eeg).reference == "average"


def test_what_does_not_fit_does_not_stack(field):
    parts = [sphere.lead_field(HEAD, s, field.sources) for s in (electrodes(11), coils(5))]
    with pytest.raises(ValueError, match=r"\(7, 1\).*the same sources and orientation|\(7, 3\)"):
        LeadField.stack(parts[0], parts[1].fixed())
    with pytest.raises(ValueError, match="mm apart"):
        LeadField.stack(parts[0], sphere.lead_field(HEAD, coils(5), sources(0.3, 7)))
    with pytest.raises(ValueError, match="come more than once"):
        LeadField.stack(parts[0], parts[0])
    with pytest.raises(ValueError, match="nothing to stack"):
        LeadField.stack()


def cortical(count=24):
    """Sources that know their vertices: not in order, right hemisphere first."""
    dipoles = sources(0.7, count)
    rng = np.random.default_rng(4)
    hemispheres = (np.arange(count) < 10).astype(int)
    vertices = np.concatenate([rng.permutation(60)[:10], rng.permutation(90)[: count - 10]])
    triangles = np.array([[0, 1, 2], [3, 4, 5], [12, 13, 14]])
    return Sources(dipoles.positions, dipoles.normals, triangles, None, vertices, hemispheres, subject="made up")


def recording(field):
    """An evoked response of one source, its info and a noise covariance."""
    names = list(field.sensors.names)
    info = mne.create_info(names, 100.0, list(field.sensors.kinds), verbose=False)
    for channel, place in zip(info["chs"], field.sensors.positions, strict=True):
        channel["loc"][:3] = place
        if channel["kind"] == mne.io.constants.FIFF.FIFFV_MEG_CH:
            channel["coil_type"] = mne.io.constants.FIFF.FIFFV_COIL_POINT_MAGNETOMETER
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform("meg", "head")
    currents = np.zeros((len(field.sources), 6))
    currents[4] = 20e-9
    evoked = mne.EvokedArray(np.einsum("ms,st->mt", field.fixed().gain[:, :, 0], currents), info, verbose=False)
    if "eeg" in field.sensors.kinds:
        evoked.set_eeg_reference("average", projection=True, verbose=False)
    levels = np.where(np.array(field.sensors.kinds) == "eeg", 1e-7, 1e-14) ** 2
    return evoked, mne.Covariance(levels, names, [], [], nfree=1000)


@pytest.mark.parametrize(("fixed", "loose"), [(True, "auto"), (False, 1.0), (False, 0.2)])
def test_mne_inverts_a_cortical_lead_field(fixed, loose):
    field = sphere.lead_field(HEAD, both(electrodes(40), coils(30)), cortical())
    evoked, noise = recording(field)
    forward = field.to_mne(evoked.info)
    assert forward["nsource"] == 24
    assert [space["nuse"] for space in forward["src"]] == [14, 10]
    options = {"fixed": True, "loose": 0.0} if fixed else {"loose": loose}
    operator = mne.minimum_norm.make_inverse_operator(evoked.info, forward, noise, depth=None, verbose=False, **options)
    estimate = mne.minimum_norm.apply_inverse(evoked, operator, 1e-4, "MNE", verbose=False)
    peak, _ = estimate.get_peak(vert_as_index=True)
    order = np.lexsort((field.sources.vertices, field.sources.hemispheres))
    assert order[peak] == 4


def test_mne_inverts_a_lead_field_without_surface(field):
    evoked, noise = recording(field)
    forward = field.to_mne(evoked.info)
    assert forward["src"][0]["type"] == "discrete"
    operator = mne.minimum_norm.make_inverse_operator(evoked.info, forward, noise, depth=0.8, loose=1.0, verbose=False)
    estimate = mne.minimum_norm.apply_inverse(evoked, operator, 1e-4, "MNE", verbose=False)
    assert np.isfinite(estimate.data).all()
    assert estimate.get_peak(vert_as_index=True)[0] == 4


def test_the_forward_holds_the_gain_in_the_order_of_mne():
    dipoles = cortical()
    field = sphere.lead_field(HEAD, electrodes(5), dipoles)
    evoked, _ = recording(field)
    forward = field.to_mne(evoked.info)
    order = np.lexsort((dipoles.vertices, dipoles.hemispheres))
    assert_allclose(forward["sol"]["data"].reshape(5, 24, 3), field.gain[:, order])
    assert_allclose(forward["source_rr"], dipoles.positions[order])
    fixed = mne.convert_forward_solution(forward, force_fixed=True, surf_ori=True, verbose=False)
    assert_allclose(fixed["sol"]["data"], field.fixed().gain[:, order, 0], rtol=1e-5, atol=1e-6 * field.gain.max())
    assert_allclose(field.fixed().to_mne(evoked.info)["sol"]["data"], field.fixed().gain[:, order, 0])


def test_the_forward_survives_a_file(field, tmp_path):
    evoked, _ = recording(field)
    forward = field.to_mne(evoked.info)
    forward.save(tmp_path / "a-fwd.fif", verbose=False)
    again = mne.read_forward_solution(tmp_path / "a-fwd.fif", verbose=False)["sol"]
    # A file holds coils first, in single precision.
    order = [again["row_names"].index(name) for name in field.sensors.names]
    for row, wanted in zip(again["data"][order], forward["sol"]["data"], strict=True):
        assert_allclose(row, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def test_the_forward_wants_its_sensors_among_the_channels(field):
    with pytest.raises(ValueError, match="16 sensors are not channels of the info: E0, E1"):
        field.to_mne(mne.create_info(["a"], 100.0, "eeg", verbose=False))
    bare = LeadField(field.gain[:, :, :1], field.sensors, Sources(field.sources.positions))
    evoked, _ = recording(field)
    with pytest.raises(ValueError, match="fixed lead field wants the sources' normals"):
        bare.to_mne(evoked.info)
