"""A Matérn field on the cortex is the field of the closed form, and its algebra is that of the dense matrix."""

import pickle

import numpy as np
import pytest
from numpy.polynomial.legendre import legval
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import kv

from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.head import template_cortex
from bayesinv.head.cortical_field import Matern, check_length
from bayesinv.head.sources import Sources

RADIUS = 0.08


def plane(edge, width=0.24):
    """A square of a plane, of equilateral triangles."""
    rows = int(width / edge / np.sqrt(0.75)) + 1
    columns = int(width / edge) + 1
    i, j = (part.ravel() for part in np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij"))
    positions = edge * np.column_stack([i + 0.5 * (j % 2), np.sqrt(0.75) * j, np.zeros(i.size)])
    number = np.arange(i.size).reshape(columns, rows)
    a, b, c, d = (part.ravel() for part in (number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:]))
    # The upper row of a strip lies half an edge to the right, or to the left in every other strip.
    right = number[:-1, :-1].ravel() % rows % 2 == 0
    one = np.where(right[:, None], np.column_stack([a, b, c]), np.column_stack([a, b, d]))
    two = np.where(right[:, None], np.column_stack([b, d, c]), np.column_stack([a, d, c]))
    return Sources(positions, triangles=np.concatenate([one, two]))


def ball(frequency):
    sphere = geodesic_sphere(frequency)
    return Sources(RADIUS * sphere.vertices, triangles=sphere.triangles)


def on_plane(distance, length):
    """Matérn correlation with ν = 1 (Lindgren, Rue & Lindström 2011, eq. 1)."""
    scaled = np.maximum(np.sqrt(8) * distance / length, 1e-12)
    return scaled * kv(1, scaled)


def on_ball(cosine, length):
    """Correlation by the spectrum of (κ² - Δ)² on a sphere, whose Laplacian has the eigenvalues -l(l + 1)/R²."""
    order = np.arange(400)
    power = (2 * order + 1) / (8 / length**2 + order * (order + 1) / RADIUS**2) ** 2
    return legval(cosine, power) / power.sum()


def row(field, source):
    """Correlation of all sources with one."""
    unit = np.zeros((len(field.sd), 1))
    unit[source] = 1
    return field.product(unit)[:, 0]


def error_on_plane(edge, length=0.04):
    sources = plane(edge)
    middle = int(np.argmin(np.linalg.norm(sources.positions - sources.positions.mean(axis=0), axis=1)))
    distance = np.linalg.norm(sources.positions - sources.positions[middle], axis=1)
    field = Matern.of(sources).at(length)
    # Farther out the free border is felt.
    nearby = distance < 0.06
    return np.abs(row(field, middle) - on_plane(distance, length))[nearby].max()


def error_on_ball(frequency, length):
    sources = ball(frequency)
    cosine = np.clip(sources.positions @ sources.positions[5] / RADIUS**2, -1, 1)
    return np.abs(row(Matern.of(sources).at(length), 5) - on_ball(cosine, length)).max()


def dense(matern, length):
    """The correlation from the precision as a matrix."""
    kappa2 = 8 / length**2
    mass, stiffness = np.diag(matern.mass), matern.stiffness.toarray()
    precision = kappa2**2 * mass + 2 * kappa2 * stiffness + stiffness @ np.diag(1 / matern.mass) @ stiffness
    covariance = np.linalg.inv(precision)
    sd = np.sqrt(np.diag(covariance))
    return covariance / sd / sd[:, None]


@pytest.fixture(scope="module")
def cortex():
    return template_cortex.sources("oct4")


@pytest.fixture(scope="module")
def matern(cortex):
    return Matern.of(cortex)


class TestClosedForm:
    def test_on_a_plane_correlation_is_materns(self):
        assert error_on_plane(0.0025) < 0.015

    def test_on_a_plane_the_error_falls_as_the_square_of_the_edge_but_for_a_logarithm(self):
        coarse, fine = error_on_plane(0.006), error_on_plane(0.003)
        assert 1.2 < np.log2(coarse / fine) < 2.2

    def test_on_a_plane_the_variance_before_scaling_is_one_over_four_pi_kappa_squared(self):
        sources = plane(0.0025)
        middle = int(np.argmin(np.linalg.norm(sources.positions - sources.positions.mean(axis=0), axis=1)))
        sd = Matern.of(sources).at(0.04).sd[middle]
        assert_allclose(sd**2, 0.04**2 / (32 * np.pi), rtol=0.03)

    @pytest.mark.parametrize("length", [0.05, 0.1])
    def test_on_a_sphere_correlation_is_that_of_its_spectrum(self, length):
        coarse, fine = error_on_ball(15, length), error_on_ball(30, length)
        assert fine < 0.02 * (0.05 / length) + 1e-4
        assert 1.5 < np.log2(coarse / fine) < 2.2

    def test_at_the_length_correlation_is_0_14_on_a_plane(self):
        sources = plane(0.003)
        middle = int(np.argmin(np.linalg.norm(sources.positions - sources.positions.mean(axis=0), axis=1)))
        distance = np.linalg.norm(sources.positions - sources.positions[middle], axis=1)
        found = row(Matern.of(sources).at(0.03), middle)[np.abs(distance - 0.03) < 1e-9]
        assert len(found) == 6
        assert_allclose(found, 0.14, atol=0.01)

    def test_shortest_length_leaves_sources_independent(self, matern):
        found = matern.at(matern.limits[0]).product(np.eye(len(matern.mass)))
        assert np.abs(found - np.eye(len(found))).max() < 0.03

    def test_longest_length_moves_a_hemisphere_together(self, cortex, matern):
        found = matern.at(matern.limits[1]).product(np.eye(len(cortex)))
        left = cortex.hemispheres == 0
        assert found[np.ix_(left, left)].min() > 0.5


@pytest.mark.parametrize("length", [0.005, 0.02, 0.1])
class TestDense:
    def test_times_is_the_dense_product(self, matern, length, rng):
        table = rng.standard_normal((len(matern.mass), 3))
        assert_allclose(matern.at(length).product(table), dense(matern, length) @ table, atol=1e-9)

    def test_gram_is_the_dense_product(self, matern, length, rng):
        gain = rng.standard_normal((7, len(matern.mass)))
        assert_allclose(matern.at(length).gram(gain), gain @ dense(matern, length) @ gain.T, rtol=1e-9, atol=1e-9)

    def test_colour_is_a_square_root(self, matern, length):
        root = matern.at(length).sample(np.eye(len(matern.mass)))
        assert_allclose(root @ root.T, dense(matern, length), atol=1e-9)

    def test_diagonal_is_one(self, matern, length):
        found = matern.at(length).product(np.eye(len(matern.mass)))
        assert_allclose(np.diag(found), 1, rtol=1e-10)

    def test_it_is_symmetric_and_positive_definite(self, matern, length):
        found = matern.at(length).product(np.eye(len(matern.mass)))
        assert_allclose(found, found.T, atol=1e-12)
        assert np.linalg.eigvalsh(found).min() > 0

    def test_hemispheres_are_independent(self, cortex, matern, length):
        found = matern.at(length).product(np.eye(len(cortex)))
        left = cortex.hemispheres == 0
        assert (found[np.ix_(left, ~left)] == 0).all()
        assert found[np.ix_(left, left)].min() > 0


class TestField:
    def test_pieces_without_hemispheres_are_independent(self, matern, cortex):
        bare = Matern.of(Sources(cortex.positions, triangles=cortex.triangles))
        assert_array_equal(bare.pieces, matern.pieces)
        assert_array_equal(np.unique(matern.pieces[cortex.hemispheres == 1]).size, 1)

    def test_the_order_of_sources_does_not_matter(self, matern, cortex, rng):
        order = rng.permutation(len(cortex))
        table = rng.standard_normal((len(cortex), 2))
        permuted = Matern.of(cortex.pick(order)).at(0.03).product(table[order])
        assert_allclose(permuted, matern.at(0.03).product(table)[order], atol=1e-9)

    def test_lengths_scale_with_the_mesh(self, matern, cortex, rng):
        table = rng.standard_normal((len(cortex), 2))
        double = Matern.of(Sources(2 * cortex.positions, triangles=cortex.triangles))
        assert_allclose(double.at(0.06).product(table), matern.at(0.03).product(table), atol=1e-9)

    def test_draws_have_unit_variance_and_the_correlation(self, matern, rng):
        field = matern.at(0.04)
        draws = field.sample(rng.standard_normal((len(matern.mass), 4000)))
        assert_allclose((draws**2).mean(axis=1), 1, atol=6 * np.sqrt(2 / 4000))
        assert_allclose(draws @ draws[9] / 4000, row(field, 9), atol=6 * np.sqrt(2 / 4000))

    @pytest.mark.slow
    def test_a_real_surface_of_twenty_thousand_sources_has_unit_diagonal(self, rng):
        cortex = template_cortex.cortex()
        some = rng.choice(len(cortex), 12, replace=False)
        field = Matern.of(cortex).at(0.02)
        unit = np.zeros((len(cortex), len(some)))
        unit[some, np.arange(len(some))] = 1
        assert_allclose(field.product(unit)[some, np.arange(len(some))], 1, rtol=1e-10)

    def test_it_can_be_sent_to_another_process(self, matern, rng):
        field = matern.at(0.03)
        table = rng.standard_normal((len(matern.mass), 2))
        assert_allclose(pickle.loads(pickle.dumps(field)).product(table), field.product(table), rtol=1e-12)


class TestDoors:
    def test_no_triangles(self, cortex):
        with pytest.raises(ValueError, match="wants sources with triangles"):
            Matern.of(Sources(cortex.positions))
        with pytest.raises(ValueError, match="wants sources with triangles"):
            Matern.of(Sources(cortex.positions, triangles=np.zeros((0, 3), dtype=int)))

    def test_unused_vertices(self, cortex):
        extra = Sources(np.vstack([cortex.positions, [[0, 0, 0.2], [0, 0, 0.3]]]), triangles=cortex.triangles)
        with pytest.raises(ValueError, match=r"2 sources are in no triangle, .* \(516, 517\); drop such sources"):
            Matern.of(extra)

    def test_degenerate_triangles(self, cortex):
        line = cortex.positions.copy()
        corners = cortex.triangles[7]
        line[corners[2]] = (line[corners[0]] + line[corners[1]]) / 2
        with pytest.raises(ValueError, match=r"1 triangle is degenerate: .* \(7\); mend the mesh"):
            Matern.of(Sources(line, triangles=cortex.triangles))
        twice = np.vstack([cortex.triangles, [[3, 3, 4]]])
        with pytest.raises(ValueError, match=r"1 triangle is degenerate"):
            Matern.of(Sources(cortex.positions, triangles=twice))
        with pytest.raises(ValueError, match=r"triangles are degenerate"):
            Matern.of(Sources(np.zeros_like(cortex.positions), triangles=cortex.triangles))

    def test_sheets_that_meet(self, cortex):
        twice = np.vstack([cortex.triangles, cortex.triangles[:1]])
        with pytest.raises(ValueError, match=r"3 edges are of more than two triangles"):
            Matern.of(Sources(cortex.positions, triangles=twice))

    def test_a_triangle_across_hemispheres(self, cortex):
        bridge = np.vstack([cortex.triangles, [[0, 1, len(cortex) - 1]]])
        with pytest.raises(ValueError, match=r"1 triangle is across two hemispheres \(1024\)"):
            Matern.of(Sources(cortex.positions, triangles=bridge, hemispheres=cortex.hemispheres))

    def test_a_hemisphere_in_pieces(self, cortex):
        claim = np.zeros(len(cortex), dtype=int)
        with pytest.raises(ValueError, match=r"falls into 2 pieces \(of 258, 258 sources\), but hemispheres claims 1"):
            Matern.of(Sources(cortex.positions, triangles=cortex.triangles, hemispheres=claim))

    @pytest.mark.parametrize("length", [0, -0.01, np.nan, np.inf])
    def test_a_length_that_is_none(self, matern, length):
        with pytest.raises(ValueError, match="must be positive, in m"):
            matern.at(length)

    @pytest.mark.parametrize("length", [20, 1e-5])
    def test_a_length_in_another_unit(self, matern, length):
        with pytest.raises(ValueError, match=r"this mesh shows 0\.0016 to 0\.22 m"):
            check_length(length, matern)

    @pytest.mark.parametrize("length", [0.005, 0.1])
    def test_lengths_of_a_cortex_are_taken(self, matern, length):
        assert check_length(length, matern) == length

    @pytest.mark.parametrize("verb", ["product", "sample", "gram"])
    def test_tables(self, matern, verb):
        act = getattr(matern.at(0.03), verb)
        table = np.ones((2, 516)) if verb == "gram" else np.ones((516, 2))
        with pytest.raises(ValueError, match="has source = 2, but the mesh has source = 516"):
            act(table.T)
        with pytest.raises(ValueError, match="wants 2 axes"):
            act(np.ones(516))
        table[1, 1] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            act(table)
