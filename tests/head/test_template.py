"""The template head is a head, and its sources lie in its brain."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv.geometry.surfaces import inside, nearest
from bayesinv.head import template, template_cortex
from bayesinv.head.head import check_surfaces


@pytest.fixture(scope="module")
def grid():
    return template_cortex.sources("oct4")


class TestSurfaces:
    def test_they_are_closed_nested_and_apart(self):
        head = template.head()
        assert [len(surface.vertices) for surface in head.surfaces] == [642, 642, 642]
        assert check_surfaces(head).names == ("brain", "skull", "scalp")

    def test_skull_is_within_its_limits_and_a_fraction_of_the_way(self):
        inner, skull, scalp = (s.vertices for s in template.surfaces(2, skull_fraction=0.3))
        thick = np.linalg.norm(skull - inner, axis=1)
        way = np.linalg.norm(scalp - inner, axis=1)
        assert_allclose(thick, np.clip(0.3 * way, template.MIN_SKULL, template.MAX_SKULL), rtol=1e-6)

    def test_axes_are_those_of_a_head(self):
        # Head coordinates: x to the right, y to the nose, z up, the origin between the ears.
        _, _, scalp = (surface.vertices for surface in template.surfaces(2))
        assert abs(scalp[:, 0].max() + scalp[:, 0].min()) < 0.02
        assert 0.08 < scalp[:, 1].max() < 0.13
        assert 0.10 < scalp[:, 2].max() < 0.16

    def test_a_ray_meets_the_outermost_of_several_layers(self):
        from bayesinv.geometry.icosphere import geodesic_sphere

        ball = geodesic_sphere(4)
        both = np.concatenate([0.05 * ball.vertices, 0.09 * ball.vertices])
        triangles = np.concatenate([ball.triangles, ball.triangles + len(ball.vertices)])
        found = template._outermost((both, triangles), np.zeros(3), ball.vertices)
        assert_allclose(found, 0.09, rtol=1e-9)

    @pytest.mark.parametrize("fraction", [0, 1, 1.2])
    def test_fraction_outside_is_refused(self, fraction):
        with pytest.raises(ValueError, match=r"skull_fraction is .* between 0 and 1"):
            template.surfaces(skull_fraction=fraction)

    def test_subdivisions_outside_are_refused(self):
        with pytest.raises(ValueError, match="subdivisions is 9, but must be 1 to 6"):
            template.surfaces(9)


class TestSources:
    @pytest.mark.parametrize(("spacing", "count"), [("oct4", 516), ("oct5", 2052), ("ico3", 1284)])
    def test_a_grid_has_its_count_on_closed_hemispheres(self, spacing, count):
        sources = template_cortex.sources(spacing)
        assert len(sources) == count
        # A sphere's triangulation has 2 (vertices - 2) triangles, and there are two of them.
        assert len(sources.triangles) == 2 * (count - 4)
        assert len({*zip(sources.vertices.tolist(), sources.hemispheres.tolist(), strict=True)}) == count

    def test_triangles_join_neighbours(self, grid):
        corners = grid.positions[grid.triangles]
        edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
        assert np.median(edges) < 0.02
        assert edges.max() < 0.06
        assert_array_equal(np.ptp(grid.hemispheres[grid.triangles], axis=1), 0)

    def test_areas_add_up_to_the_cortex(self, grid):
        cortex = template_cortex.cortex()
        assert_allclose(grid.areas.sum(), cortex.areas.sum(), rtol=1e-9)
        # The white surface of both hemispheres of an adult.
        assert 0.10 < cortex.areas.sum() < 0.20

    def test_left_is_left_and_normals_point_outwards(self, grid):
        assert grid.mri_positions[grid.hemispheres == 0, 0].mean() < -0.02
        assert grid.mri_positions[grid.hemispheres == 1, 0].mean() > 0.02
        cortex = template_cortex.cortex()
        corners = cortex.positions[cortex.triangles]
        volume = np.linalg.det(corners - cortex.positions.mean(axis=0)).sum() / 6
        assert volume > 0
        faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert (np.einsum("ta,ta->t", faces, cortex.normals[cortex.triangles[:, 0]]) > 0).mean() > 0.97

    def test_vertices_ascend_in_each_hemisphere(self, grid):
        for hemisphere in (0, 1):
            assert (np.diff(grid.vertices[grid.hemispheres == hemisphere]) > 0).all()

    def test_all_lie_deep_in_the_brain(self):
        skull = template.surfaces()[0]
        some = template_cortex.cortex().positions[::7]
        assert inside(skull, some).all()
        assert nearest(skull, some)[2].min() > 2.5e-3

    def test_a_rotated_grid_differs_and_repeats(self, grid):
        one, two = template_cortex.sources("oct4", seed=3), template_cortex.sources("oct4", seed=3)
        assert_array_equal(one.vertices, two.vertices)
        assert len(np.intersect1d(one.vertices, grid.vertices)) < len(grid) / 4

    @pytest.mark.parametrize("spacing", ["oct5", "all"])
    def test_avoided_vertices_are_avoided(self, grid, spacing):
        other = template_cortex.sources(spacing, avoid=grid)
        used = {*zip(grid.vertices.tolist(), grid.hemispheres.tolist(), strict=True)}
        assert not used & {*zip(other.vertices.tolist(), other.hemispheres.tolist(), strict=True)}
        assert len(other) == {"oct5": 2052, "all": 20484 - 516}[spacing]

    def test_unknown_spacing_is_refused(self):
        with pytest.raises(ValueError, match=r"no spacing named 'oct7'.*oct6"):
            template_cortex.sources("oct7")

    def test_avoiding_nearly_everything_is_refused(self):
        with pytest.raises(ValueError, match="vertices are left for 4098 sources of a hemisphere"):
            template_cortex.sources("oct6", avoid=template_cortex.cortex())


class TestElectrodes:
    @pytest.mark.parametrize("count", [32, 64])
    def test_they_sit_on_the_scalp(self, count):
        sensors = template_cortex.electrodes(count)
        assert len(sensors) == count
        assert nearest(template.surfaces()[-1], sensors.positions)[2].max() < 1e-9

    def test_names_are_where_they_belong(self):
        nose, top, left, right, back = template_cortex.electrodes(["Fpz", "Cz", "T7", "T8", "Oz"]).positions
        assert top[2] == max(p[2] for p in (nose, top, left, right, back))
        assert left[0] < -0.06 < 0.06 < right[0]
        assert nose[1] > 0.08
        assert back[1] < -0.06

    def test_unknown_layout_or_name_is_refused(self):
        with pytest.raises(ValueError, match="no layout of 63 electrodes; give 32 or 64"):
            template_cortex.electrodes(63)
        with pytest.raises(ValueError, match=r"no electrode named 'Czz'.*did you mean"):
            template_cortex.electrodes(["Czz"])
