"""Heads, sensors and sources by name or from files make the lead field that the solvers give for them directly."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesinv.cli import scene
from bayesinv.forward import sphere
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.geometry.shells import nested_spheres
from bayesinv.head import template_cortex
from bayesinv.head.head import Head
from bayesinv.head.sources import Sources


@pytest.fixture(scope="module")
def turn():
    """From MRI to head coordinates: a rotation and a shift."""
    from scipy.spatial.transform import Rotation

    table = np.eye(4)
    table[:3, :3] = Rotation.from_euler("xyz", [0.1, -0.05, 0.2]).as_matrix()
    table[:3, 3] = [0.002, 0.012, 0.045]
    return table


@pytest.fixture(scope="module")
def subjects(tmp_path_factory, turn):
    """A subjects' folder with one subject whose head is three spheres."""
    import mne

    home = tmp_path_factory.mktemp("subjects")
    bem = home / "round" / "bem"
    bem.mkdir(parents=True)
    ball = geodesic_sphere(4)
    surfaces = []
    for ident, radius in ((4, 0.095), (3, 0.087), (1, 0.080)):
        surface = {"rr": radius * ball.vertices, "tris": ball.triangles, "id": ident, "sigma": 0.3}
        surface.update(nn=ball.vertices, ntri=len(ball.triangles), np=len(ball.vertices), coord_frame=5)
        surfaces.append(surface)
    positions = 0.05 * geodesic_sphere(1).vertices
    with mne.use_log_level("ERROR"):
        mne.write_bem_surfaces(bem / "round-bem.fif", surfaces)
        space = mne.setup_volume_source_space(pos={"rr": positions, "nn": geodesic_sphere(1).vertices})
        mne.write_source_spaces(bem / "round-src.fif", space)
        mne.write_trans(home / "round" / "round-trans.fif", mne.Transform("mri", "head", turn))
    return home


@pytest.fixture
def solved():
    """Both in one: the scene and its lead field."""

    def call(*names, **options):
        made, method = scene.set_scene(*names, **options)
        return made, scene.solve(made, method)

    return call


class TestSpheres:
    def test_it_is_the_analytic_solution(self, solved):
        made, found = solved("spheres", sensors="32", sources="25", conductivities=[0.3, 0.02, 0.4])
        head = Head.spheres(scene.RADII, (0.3, 0.02, 0.4), centre=scene.CENTRE)
        assert_allclose(found.gain, sphere.lead_field(head, found.sensors, found.sources).gain)
        away = np.linalg.norm(found.sources.positions - scene.CENTRE, axis=1)
        assert away.max() < scene.RADII[0] - scene.MARGIN
        assert "series to degree" in found.notes["potential"]
        assert found.notes["closest source"].startswith(f"{1e3 * (scene.RADII[0] - away.max()):.3g} mm")
        assert "moved to the scalp" in found.notes["electrodes"]
        assert made.info is None

    def test_radii_and_conductivities_are_those_given(self, solved):
        _, found = solved("spheres", None, "32", "25", radii=[0.095], conductivities=[0.33])
        assert found.notes["potential"] == "closed form"
        assert found.notes["radii"] == "head 95 mm"

    @pytest.mark.parametrize(
        "method", [pytest.param("bem", marks=pytest.mark.slow), pytest.param("fem", marks=pytest.mark.slow)]
    )
    def test_solvers_agree(self, solved, method, monkeypatch):
        monkeypatch.setattr(scene, "SPACING", 0.009)  # coarser than a user's, to the same accuracy
        _, exact = solved("spheres", "sphere", "32", "40")
        _, other = solved("spheres", method, "32", "40")
        one, two = (field.rereference("average").gain for field in (exact, other))
        assert np.linalg.norm(one - two) < 0.05 * np.linalg.norm(one)
        assert "accuracy" in other.notes


class TestTemplate:
    def test_it_is_the_template_by_boundary_elements(self):
        made, method = scene.set_scene(sources="oct4", sensors="32")
        assert method == "bem"
        assert made.head.names == ("brain", "skull", "scalp")
        assert len(made.sources) == 516
        assert_allclose(made.sensors.positions, template_cortex.electrodes(32).positions, atol=1e-4)

    def test_a_montage_is_brought_to_the_scalp(self):
        made, _ = scene.set_scene(sensors="biosemi32", sources="30")
        from bayesinv.geometry.surfaces import nearest

        assert len(made.sensors) == 32
        assert nearest(made.head.surfaces[-1], made.sensors.positions)[2].max() < 1e-9
        assert "moved" in made.notes["electrodes"]

    @pytest.mark.slow
    def test_finite_elements_have_fluid(self):
        made, method = scene.set_scene(method="fem", sensors="32", sources="30", resolution="coarse")
        assert (method, made.head.names) == ("fem", ("brain", "CSF", "skull", "scalp"))
        assert made.head.mesh is not None


class TestSubject:
    def test_it_is_read_from_its_folder(self, solved, subjects, turn):
        made, found = solved("subject", None, "32", subject="round", subjects_dir=subjects)
        assert made.head.names == ("brain", "skull", "scalp")
        radii = [np.linalg.norm(s.vertices - turn[:3, 3], axis=1).mean() for s in made.head.surfaces]
        assert_allclose(radii, [0.080, 0.087, 0.095], rtol=1e-6)
        assert_allclose(
            made.sources.positions, 0.05 * geodesic_sphere(1).vertices @ turn[:3, :3].T + turn[:3, 3], atol=1e-8
        )
        assert_allclose(made.sources.normals, geodesic_sphere(1).vertices @ turn[:3, :3].T, atol=1e-6)
        assert_allclose(made.sources.mri_positions, 0.05 * geodesic_sphere(1).vertices, atol=1e-8)
        assert found.gain.shape == (32, 12, 3)
        assert "half of that" in found.notes["accuracy"]

    def test_another_transform_and_source_space(self, subjects, tmp_path):
        import mne

        with mne.use_log_level("ERROR"):
            mne.write_trans(tmp_path / "mine-trans.fif", mne.Transform("head", "mri", np.linalg.inv(scene_turn())))
        src = str(subjects / "round" / "bem" / "round-src.fif")
        made, _ = scene.set_scene(
            "subject", None, "32", src, subject="round", subjects_dir=subjects, trans=tmp_path / "mine-trans.fif"
        )
        centre = made.head.surfaces[0].vertices.mean(axis=0)
        assert_allclose(centre, [0, 0, 0.04], atol=1e-6)
        assert_allclose(made.sources.positions.mean(axis=0), [0, 0, 0.04], atol=1e-6)

    def test_what_is_missing_is_named(self, subjects, tmp_path):
        with pytest.raises(ValueError, match="wants --subject and --subjects-dir"):
            scene.set_scene("subject")
        with pytest.raises(FileNotFoundError, match=r"no folder .*with the subject's surfaces"):
            scene.set_scene("subject", subject="flat", subjects_dir=subjects)
        (tmp_path / "bare" / "bem").mkdir(parents=True)
        with pytest.raises(FileNotFoundError, match=r"no transform .*give --trans"):
            scene.set_scene("subject", subject="bare", subjects_dir=tmp_path)
        trans = subjects / "round" / "round-trans.fif"
        with pytest.raises(FileNotFoundError, match=r"neither a -bem.fif file nor inner_skull.surf.*watershed"):
            scene.set_scene("subject", subject="bare", subjects_dir=tmp_path, trans=trans)


def scene_turn():
    table = np.eye(4)
    table[2, 3] = 0.04
    return table


class TestMeshFile:
    @pytest.fixture(scope="class")
    @staticmethod
    def path(tmp_path_factory):
        import meshio

        mesh = nested_spheres([0.06, 0.09], 0.018, centre=(0, 0.01, 0.045))
        path = tmp_path_factory.mktemp("mesh") / "head.vtu"
        labels = {"label": [mesh.labels]}
        meshio.Mesh(1e3 * mesh.nodes, [("tetra", mesh.elements)], cell_data=labels).write(path)
        return path

    def test_it_is_solved_by_finite_elements(self, solved, path):
        made, found = solved(str(path), None, "32", "30", unit="mm", conductivities=[0.33, 0.2])
        assert "finite elements" in found.notes["method"]
        assert "compartment 1 0.33" in found.notes["conductivities"]
        away = np.linalg.norm(made.sources.positions - [0, 0.01, 0.045], axis=1)
        assert away.max() < 0.06
        assert np.isfinite(found.gain).all()

    def test_what_is_missing_is_named(self, path):
        with pytest.raises(ValueError, match="has 2 compartments; give their conductivities"):
            scene.set_scene(str(path), unit="mm")
        with pytest.raises(ValueError, match="wants method 'fem'"):
            scene.set_scene(str(path), "bem")
        with pytest.raises(FileNotFoundError, match="no mesh file"):
            scene.set_scene("absent.msh")


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (("tempalte",), {}, "did you mean 'template'?"),
        (("template", "sphere"), {}, "wants head 'spheres'"),
        (("template", "bme"), {}, "did you mean 'bem'?"),
        (("template", None, "65"), {}, "no layout of 65 electrodes"),
        (("template", None, "biosmi64"), {}, "did you mean 'biosemi64'?"),
        (("template", None, "absent.fif"), {}, "no info file absent.fif"),
        (("template", None, "32", "oct9"), {}, "did you mean 'oct"),
        (("template", None, "32", "absent.fif"), {}, "no source space file"),
        (("spheres", None, "32", "oct5"), {}, "are of the template's cortex"),
        (("spheres", None, "32", "0.1"), {}, "must be 1 to 100 mm"),
        (("spheres", None, "32", "99"), {"radii": [0.02, 0.095], "conductivities": [1, 1]}, "take a finer one"),
        (("spheres",), {"radii": [0.08, 0.095]}, "give their conductivities"),
        (("spheres",), {"conductivities": [0.33, 0.01]}, "there are 2 conductivities, but the head has 3"),
        (("spheres",), {"conductivities": [0.33, 0.01, -1]}, "must be positive"),
        (("spheres",), {"radii": [0.095, 0.08, 0.07]}, "must grow"),
    ],
)
def test_says_what_is_wrong(names, options, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words.replace("?", r"\?")):
        scene.set_scene(*names, **options)


def test_a_source_space_in_mri_coordinates_wants_the_transform(subjects):
    with pytest.raises(ValueError, match="give the transform to head coordinates with --trans"):
        scene.set_scene("spheres", None, "32", str(subjects / "round" / "bem" / "round-src.fif"))


def test_surfaces_of_a_source_space_are_kept(tmp_path):
    import mne

    grid = template_cortex.sources("oct4")
    with mne.use_log_level("ERROR"):
        info = mne.create_info(["Cz"], 100.0, "eeg")
        info.set_montage("standard_1020")
        from bayesinv.forward.leadfield import LeadField

        field = LeadField(np.ones((1, len(grid), 3)), template_cortex.electrodes(["Cz"]), grid)
        mne.write_source_spaces(tmp_path / "grid-src.fif", field.to_mne(info)["src"])
    found = scene._source_space(str(tmp_path / "grid-src.fif"), None)
    assert isinstance(found, Sources)
    assert_allclose(found.positions, grid.positions, atol=1e-7)
    assert_allclose(found.normals, grid.normals, atol=1e-6)
    assert found.vertices.tolist() == grid.vertices.tolist()
    assert found.hemispheres.tolist() == grid.hemispheres.tolist()
