"""Maps of other modalities, read at the sources from images that were made to be known everywhere."""

import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation
from structured import scene

import bayesinv as bi
from bayesinv.head.brain_maps import MNI152, VERTEX_COUNTS, sample_map, to_scanner
from bayesinv.head.template_cortex import cortex

SHAPE = (17, 19, 23)


def rigid_transform(angles, shift):
    """A rigid transform (4, 4) from Euler angles in degrees and a shift."""
    out = np.eye(4)
    out[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    out[:3, 3] = shift
    return out


AFFINE = rigid_transform((10, -20, 30), (4.0, -6.0, 2.0)) @ np.diag([3.0, -4.0, 2.5, 1.0])
AFFINE[:3, 3] -= AFFINE[:3, :3] @ (np.array(SHAPE) - 1) / 2
TO_MRI = rigid_transform((5, 3, -8), (0.001, -0.002, 0.003))


def linear(positions):
    """A linear function (position,) of positions (position, 3) in mm."""
    return 7.0 + positions @ [0.3, -0.2, 0.5]


@pytest.fixture
def ramp():
    """A volume, oblique to the scanner, that holds `linear` at every voxel."""
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1).reshape(-1, 3)
    values = linear(voxels @ AFFINE[:3, :3].T + AFFINE[:3, 3])
    return nibabel.Nifti1Image(values.reshape(SHAPE), AFFINE)


@pytest.fixture
def sources(rng):
    """Sources inside the ramp, whose head coordinates are not the MRI's."""
    inside = rng.uniform(2, np.array(SHAPE) - 3, (29, 3)) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    from_mri = np.linalg.inv(TO_MRI)
    return bi.Sources(1e-3 * inside @ from_mri[:3, :3].T + from_mri[:3, 3], to_mri=TO_MRI)


@pytest.fixture
def surface(rng):
    """Sources at some vertices of two surfaces, not in their order."""
    vertices = np.concatenate([rng.permutation(40)[:9], rng.permutation(31)[:6]])
    order = rng.permutation(15)
    return bi.Sources(rng.normal(size=(15, 3)), vertices=vertices[order], hemispheres=np.repeat([0, 1], [9, 6])[order])


class TestVolume:
    def test_a_linear_map_is_read_exactly(self, ramp, sources):
        assert_allclose(sample_map(ramp, sources), linear(1e3 * sources.mri_positions), rtol=1e-12)

    def test_a_ball_of_a_linear_map_has_its_middle_value(self, ramp, sources):
        assert_allclose(sample_map(ramp, sources, radius=0.004), linear(1e3 * sources.mri_positions), rtol=1e-12)

    def test_a_ball_takes_its_share_of_a_step(self):
        table = np.zeros((41, 41, 41))
        table[20:] = 1.0
        image = nibabel.Nifti1Image(table, np.diag([1.0, 1.0, 1.0, 1.0]))
        # The step lies at 19.5 mm; a plane at a distance h from its middle cuts (r - h)² (2r + h) / 4r³ off a ball.
        places = bi.Sources(1e-3 * np.array([[19.5, 20, 20], [22.5, 20, 20], [16.5, 20, 20]]), to_mri=np.eye(4))
        cut = (6 - 3) ** 2 * (12 + 3) / (4 * 6**3)
        assert_allclose(sample_map(image, places, radius=0.006), [0.5, 1 - cut, cut], atol=0.03)

    def test_the_image_may_lie_in_another_frame(self, ramp, sources):
        other_frame = rigid_transform((40, 5, -60), (0.02, -0.01, 0.005))
        moved_sources = bi.Sources(sources.positions, to_mri=np.linalg.inv(other_frame) @ TO_MRI)
        assert_allclose(sample_map(ramp, moved_sources, to_image=other_frame), sample_map(ramp, sources), rtol=1e-10)

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".mgz"])
    def test_files_and_single_volumes_of_a_series(self, tmp_path, ramp, sources, ending):
        wanted = sample_map(ramp, sources)
        table = ramp.get_fdata().astype(np.float32)
        kind = nibabel.MGHImage if ending == ".mgz" else nibabel.Nifti1Image
        nibabel.save(kind(table, AFFINE), tmp_path / f"map{ending}")
        assert_allclose(sample_map(tmp_path / f"map{ending}", sources), wanted, rtol=1e-5)
        assert_allclose(sample_map(kind(table[..., None], AFFINE), sources), wanted, rtol=1e-5)

    def test_voxels_without_a_value_have_no_weight(self, ramp, sources):
        table = ramp.get_fdata().copy()
        table[::7, ::7, ::7] = np.nan
        table[3, 3, 3] = np.inf
        holed = nibabel.Nifti1Image(table, AFFINE)
        full, found = sample_map(ramp, sources), sample_map(holed, sources, fill=-1000.0)
        has_value = found > -1000
        assert has_value.mean() > 0.9
        # What is left of eight voxels lies within a voxel's diagonal of the source.
        assert np.abs(found - full)[has_value].max() < np.abs(AFFINE[:3, :3].T @ [0.3, -0.2, 0.5]).sum()
        assert np.isin(found, full).mean() > 0.5

    def test_the_edge_of_the_image_is_half_a_voxel_out(self):
        image = nibabel.Nifti1Image(np.full((5, 6, 7), 2.0), np.eye(4))
        places = [[2, 2, 2], [-0.4, 2, 2], [4.4, 2, 2], [2, 5.4, 6.0], [2, 2, 6.4], [-0.6, 2, 2], [4.6, 2, 2]]
        found = sample_map(image, bi.Sources(1e-3 * np.array(places), to_mri=np.eye(4)), fill=0.0)
        assert_allclose(found, [2, 2, 2, 2, 2, 0, 0])

    def test_it_makes_a_map_of_the_problem(self, ramp):
        from dataclasses import replace

        problem = scene()
        where = replace(problem.sources, positions=0.2 * problem.sources.positions, to_mri=np.eye(4))
        values = sample_map(ramp, where)
        found = problem.with_maps({"fmri": values}).maps["fmri"]
        assert_allclose(found, (values - values.mean()) / values.std(), rtol=1e-12)


class TestFrames:
    def test_surface_coordinates_have_the_middle_of_the_volume_as_their_origin(self, tmp_path):
        affine = np.array([[-1.0, 0, 0, 133], [0, 0, 1, -110], [0, -1, 0, 140], [0, 0, 0, 1]])
        nibabel.save(nibabel.MGHImage(np.zeros((256, 256, 256), np.uint8), affine), tmp_path / "orig.mgz")
        found = to_scanner(tmp_path / "orig.mgz")
        assert_allclose(found[:3, :3], np.eye(3), atol=1e-12)
        assert_allclose(found[:3, 3], (affine @ [128, 128, 128, 1])[:3] * 1e-3, atol=1e-12)

    def test_of_fsaverage_it_is_the_identity(self):
        affine = np.array([[-1.0, 0, 0, 128], [0, 0, 1, -128], [0, -1, 0, 128], [0, 0, 0, 1]])
        assert_allclose(to_scanner(nibabel.MGHImage(np.zeros((256,) * 3, np.uint8), affine)), np.eye(4), atol=1e-12)

    def test_the_published_point_goes_where_it_was_published_to_go(self):
        assert_allclose(1e3 * (MNI152 @ [0.010, -0.020, 0.035, 1])[:3], [10.695, -18.409, 36.137], atol=5e-3)

    def test_another_format_knows_no_surface_frame(self, ramp):
        with pytest.raises(ValueError, match=r"MGH format, such as mri/orig\.mgz, but the Nifti1Image"):
            to_scanner(ramp)


LEFT, RIGHT = np.linspace(-1, 1, 40) ** 3, np.linspace(3, 5, 31) ** 2


def stored(kind, folder, name, values):
    """A map of vertices in a file, or as a nibabel image or array."""
    values = values.astype(np.float32)
    if kind == "array":
        return values
    if kind == "curv":
        nibabel.freesurfer.write_morph_data(folder / name, values)
        return folder / name
    if kind == "mgh":
        nibabel.save(nibabel.MGHImage(values[:, None, None], np.eye(4)), folder / f"{name}.mgz")
        return folder / f"{name}.mgz"
    image = nibabel.gifti.GiftiImage(darrays=[nibabel.gifti.GiftiDataArray(values, intent="NIFTI_INTENT_NONE")])
    if kind == "image":
        return image
    nibabel.save(image, folder / f"{name}.func.gii")
    return str(folder / f"{name}.func.gii")


class TestVertices:
    @pytest.mark.parametrize("kind", ["gifti", "mgh", "curv", "image", "array"])
    def test_each_source_has_the_value_of_its_vertex(self, tmp_path, surface, kind):
        pair = stored(kind, tmp_path, "lh.thickness", LEFT), stored(kind, tmp_path, "rh.thickness", RIGHT)
        found = sample_map(pair, surface)
        wanted = [(LEFT, RIGHT)[side][v] for side, v in zip(surface.hemispheres, surface.vertices, strict=True)]
        assert_allclose(found, wanted, rtol=1e-6)

    def test_a_hemisphere_without_sources_wants_no_map(self, surface):
        left = surface.pick(np.flatnonzero(surface.hemispheres == 0))
        assert_array_equal(sample_map((LEFT, None), left), LEFT[left.vertices])

    def test_holes_are_counted_and_filled(self, surface):
        holed = LEFT.copy()
        holed[surface.vertices[surface.hemispheres == 0][:2]] = np.nan
        with pytest.raises(ValueError, match="no value at 2 of 15 sources, where it is NaN or infinite; give fill="):
            sample_map((holed, RIGHT), surface)
        found = sample_map((holed, RIGHT), surface, fill=0.25)
        assert np.sum(found == 0.25) == 2

    def test_the_templates_own_maps(self):
        from pathlib import Path

        import nilearn

        folder = Path(nilearn.__file__).parent / "datasets" / "data" / "fsaverage5"
        found = sample_map((folder / "sulc_left.gii.gz", folder / "sulc_right.gii.gz"), cortex())
        assert found.shape == (2 * VERTEX_COUNTS["fsaverage5"],)
        assert 0 < found.std() < 20


class TestDoors:
    def test_a_volume_wants_the_way_to_the_mri(self, ramp, sources):
        with pytest.raises(ValueError, match="no transform to it; give Sources"):
            sample_map(ramp, bi.Sources(sources.positions))

    def test_vertices_want_vertices_and_hemispheres(self, sources):
        with pytest.raises(ValueError, match=r"these sources have none; give Sources.*hemispheres="):
            sample_map((LEFT, RIGHT), sources)

    def test_sources_outside_the_image(self, ramp, sources):
        moved_sources = sources.positions.copy()
        moved_sources[[2, 5, 7]] += 1.0
        table = ramp.get_fdata().copy()
        middle = np.linalg.inv(AFFINE) @ np.r_[1e3 * sources.mri_positions[0], 1]
        i, j, k = np.round(middle[:3]).astype(int)
        table[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2] = np.nan
        image, shifted = nibabel.Nifti1Image(table, AFFINE), bi.Sources(moved_sources, to_mri=TO_MRI)
        missing = int(np.sum(sample_map(image, shifted, fill=-999.0) == -999))
        assert missing >= 4
        with pytest.raises(ValueError, match=f"at {missing} of 29 sources: 3 lie outside of it, and {missing - 3} wh"):
            sample_map(image, shifted)

    def test_an_image_that_covers_nobody_is_refused_whatever_fills_it(self, ramp, sources):
        with pytest.raises(ValueError, match=r"covers none of the 29 sources: it spans .* give to_image.*m to m"):
            sample_map(ramp, sources, to_image=rigid_transform((0, 0, 0), (30.0, 0, 0)), fill=0.0)

    def test_a_series_is_no_map(self, sources):
        with pytest.raises(ValueError, match=r"shape \(3, 4, 5, 2\), but one volume has 3 axes; choose one"):
            sample_map(nibabel.Nifti1Image(np.zeros((3, 4, 5, 2)), AFFINE), sources)

    def test_a_map_of_vertices_is_no_volume(self, tmp_path, sources):
        for kind in ("gifti", "mgh"):
            with pytest.raises(ValueError, match=r"no volume with an affine; .* a pair \(left, right\)"):
                sample_map(stored(kind, tmp_path, "lh", LEFT), sources)

    def test_a_volume_is_no_map_of_vertices(self, ramp, surface):
        with pytest.raises(ValueError, match=r"Nifti1Image has shape \(17, 19, 23\), but one value per vertex has 1"):
            sample_map((ramp, ramp), surface)

    def test_a_map_of_another_surface(self, surface):
        with pytest.raises(ValueError, match=r"left map has vertex = 12, but a source there is vertex 3\d: .*another"):
            sample_map((LEFT[:12], RIGHT), surface)
        of_average = bi.Sources(
            surface.positions, vertices=surface.vertices, hemispheres=surface.hemispheres, subject="fsaverage4"
        )
        with pytest.raises(ValueError, match="left map has vertex = 40, but fsaverage4 has 2562 vertices per"):
            sample_map((LEFT, RIGHT), of_average)

    def test_a_pair_is_two(self, surface):
        with pytest.raises(ValueError, match=r"pair \(left, right\), but 3 came"):
            sample_map([LEFT, RIGHT, LEFT], surface)
        with pytest.raises(ValueError, match="6 sources lie in the right hemisphere, but its map is None"):
            sample_map((LEFT, None), surface)

    def test_several_maps_in_one_file(self, surface):
        part = nibabel.gifti.GiftiDataArray(LEFT.astype(np.float32))
        with pytest.raises(ValueError, match="GiftiImage holds 2 arrays, but one value per vertex is wanted"):
            sample_map((nibabel.gifti.GiftiImage(darrays=[part, part]), RIGHT), surface)

    def test_a_file_of_something_else(self, tmp_path, sources, surface):
        path = tmp_path / "map.nii"
        path.write_text("nothing of the kind")
        with pytest.raises(ValueError, match=r"map\.nii' is no image that nibabel reads"):
            sample_map(path, sources)
        other = tmp_path / "lh.curv"
        other.write_text("nor this")
        with pytest.raises(ValueError, match=r"lh\.curv' is no map of vertices; GIFTI"):
            sample_map((other, RIGHT), surface)

    def test_numbers_out_of_range(self, ramp, sources, surface):
        with pytest.raises(ValueError, match="radius is -1, but must be a length in m"):
            sample_map(ramp, sources, radius=-1)
        with pytest.raises(ValueError, match="fill is nan, but must be a finite number"):
            sample_map(ramp, sources, fill=np.nan)
        with pytest.raises(ValueError, match=r"to_image has shape \(3, 3\), but wants|but its axes are \(4, 4\)"):
            sample_map(ramp, sources, to_image=np.eye(3))
        with pytest.raises(ValueError, match="are for volumes; a map of vertices is picked"):
            sample_map((LEFT, RIGHT), surface, radius=0.01)
