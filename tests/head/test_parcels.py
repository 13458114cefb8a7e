"""Parcels are connected, alike in area and in one hemisphere; a user's labels are taken or refused with a reason."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.csgraph import connected_components, dijkstra

from bayesinv.geometry.geodesic import edge_lengths
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.head import template_cortex
from bayesinv.head.parcels import check_labels, parcels
from bayesinv.head.sources import Sources


@pytest.fixture(scope="module")
def cortex():
    return template_cortex.sources("oct4")


@pytest.fixture(scope="module")
def loose(cortex):
    """The same sources without triangles."""
    return Sources(cortex.positions, areas=cortex.areas, hemispheres=cortex.hemispheres)


def cost(sources, labels):
    """Sum over parcels of area times squared distance along the edges inside, from the best centre there."""
    edges = edge_lengths(sources)
    total = 0.0
    for k in np.unique(labels):
        inside = labels == k
        distance = dijkstra(edges[inside][:, inside], directed=False)
        total += (distance**2 @ sources.areas[inside]).min()
    return total


class TestParcels:
    @pytest.mark.parametrize("count", [2, 3, 17, 150])
    def test_there_are_as_many_as_wanted(self, cortex, count):
        labels = parcels(cortex, count)
        assert labels.shape == (516,)
        assert labels.dtype == np.int64
        assert_array_equal(np.unique(labels), np.arange(count))

    @pytest.mark.parametrize("count", [3, 17, 150])
    def test_every_parcel_is_connected(self, cortex, count):
        labels = parcels(cortex, count)
        edges = edge_lengths(cortex).tocoo()
        within = labels[edges.row] == labels[edges.col]
        edges.data = np.where(within, edges.data, 0)
        edges.eliminate_zeros()
        assert connected_components(edges, directed=False)[0] == count

    @pytest.mark.parametrize("sources", ["cortex", "loose"])
    def test_no_parcel_spans_two_hemispheres(self, sources, request):
        sources = request.getfixturevalue(sources)
        labels = parcels(sources, 9)
        assert not set(labels[sources.hemispheres == 0]) & set(labels[sources.hemispheres == 1])

    def test_areas_are_balanced(self):
        cortex = template_cortex.sources("oct5")
        areas = np.bincount(parcels(cortex, 40), cortex.areas)
        assert areas.std() < 0.25 * areas.mean()
        assert areas.min() > 0.4 * areas.mean()

    def test_a_sphere_cut_in_two_is_cut_in_halves(self):
        ball = geodesic_sphere(8)
        labels = parcels(Sources(0.08 * ball.vertices, triangles=ball.triangles), 2, seed=3)
        one, two = (ball.vertices[labels == k].mean(axis=0) for k in (0, 1))
        assert one @ two / np.linalg.norm(one) / np.linalg.norm(two) < -0.95
        assert_allclose(np.bincount(labels), len(labels) / 2, rtol=0.1)

    def test_a_folded_strip_is_cut_along_it_not_across_the_fold(self):
        # Two banks 2 mm apart, joined at the bottom only: straight distance would join what faces each other.
        along = np.linspace(0, 0.04, 21)
        depth = np.concatenate([along, along[::-1]])
        side = np.repeat([0.0, 0.002], 21)
        x = np.repeat([0.0, 0.002, 0.004], len(depth))
        positions = np.column_stack([x, np.tile(side, 3), np.tile(depth, 3)])
        a = (np.arange(2)[:, None] * len(depth) + np.arange(len(depth) - 1)).ravel()
        b = a + len(depth)
        triangles = np.concatenate([np.column_stack([a, b, a + 1]), np.column_stack([a + 1, b, b + 1])])
        labels = parcels(Sources(positions, triangles=triangles), 2)
        top = np.tile(side, 3) == 0
        assert np.mean(labels[top] == np.bincount(labels[top]).argmax()) > 0.9
        assert np.mean(labels[~top] == np.bincount(labels[~top]).argmax()) > 0.9
        assert np.bincount(labels[top]).argmax() != np.bincount(labels[~top]).argmax()

    def test_clustering_is_better_than_nearest_to_centres_at_random(self, cortex, rng):
        edges = edge_lengths(cortex)
        best = np.inf
        for _ in range(10):
            halves = [rng.choice(np.flatnonzero(cortex.hemispheres == side), 10, replace=False) for side in (0, 1)]
            distance = dijkstra(edges, directed=False, indices=np.concatenate(halves))
            best = min(best, cost(cortex, distance.argmin(axis=0)))
        assert cost(cortex, parcels(cortex, 20)) < 0.9 * best

    def test_without_triangles_it_is_as_good_as_kmeans(self, loose):
        cluster = pytest.importorskip("sklearn.cluster")

        def spread(positions, labels):
            return sum(((positions[labels == k] - positions[labels == k].mean(axis=0)) ** 2).sum() for k in set(labels))

        bare = Sources(loose.positions)
        means = cluster.KMeans(12, n_init=3, random_state=0).fit(bare.positions)
        assert spread(bare.positions, parcels(bare, 12)) < 1.15 * means.inertia_

    def test_the_seed_decides(self, cortex):
        assert_array_equal(parcels(cortex, 20, seed=4), parcels(cortex, 20, seed=4))
        assert (parcels(cortex, 20, seed=4) != parcels(cortex, 20, seed=5)).any()

    def test_larger_pieces_have_more(self):
        one, two = geodesic_sphere(4), geodesic_sphere(5)
        positions = np.concatenate([0.03 * one.vertices, 0.06 * two.vertices + [0.2, 0, 0]])
        triangles = np.concatenate([one.triangles, two.triangles + len(one.vertices)])
        areas = np.repeat([0.03**2 / len(one.vertices), 0.06**2 / len(two.vertices)], [162, 252])
        labels = parcels(Sources(positions, triangles=triangles, areas=areas), 10)
        assert len(set(labels[:162])) == 2
        assert len(set(labels[162:])) == 8

    def test_each_source_may_be_its_own(self, cortex):
        assert_array_equal(np.sort(parcels(cortex, 516)), np.arange(516))

    @pytest.mark.parametrize("count", [0, 1, 517])
    def test_count_outside(self, cortex, count):
        with pytest.raises(ValueError, match=rf"count is {count}, but must be from 2 .* to 516"):
            parcels(cortex, count)

    @pytest.mark.parametrize("count", [2.5, True])
    def test_count_that_is_none(self, cortex, count):
        with pytest.raises(ValueError, match="must be a whole number"):
            parcels(cortex, count)

    def test_sources_in_one_place(self):
        with pytest.raises(ValueError, match="lie at 2 places, which cannot be 3 parcels"):
            parcels(Sources(np.repeat([[0, 0, 0.01], [0, 0, 0.02]], 3, axis=0)), 3)


class TestLabels:
    def test_numbers_are_taken_as_they_are(self):
        assert_array_equal(check_labels(np.array([1, 0, -1, 1]), 4), [1, 0, -1, 1])
        assert_array_equal(check_labels([1.0, 0.0, 1.0], 3), [1, 0, 1])

    def test_own_parcels_pass(self, cortex):
        labels = parcels(cortex, 11)
        assert_array_equal(check_labels(labels, cortex), labels)

    def test_a_mapping_is_numbered_in_its_order(self):
        assert_array_equal(check_labels({"b": [4, 2], "a": np.array([0])}, 6), [1, -1, 0, -1, 0, -1])

    def test_labels_of_a_surface_cover_their_vertices(self, cortex):
        left = SimpleNamespace(name="one-lh", hemi="lh", vertices=cortex.vertices[[3, 8]])
        right = SimpleNamespace(name="two-rh", hemi="rh", vertices=np.append(cortex.vertices[[400]], 10**6))
        expected = np.full(516, -1)
        expected[[3, 8]] = 0
        expected[400] = 1
        assert_array_equal(check_labels([left, right], cortex), expected)

    def test_labels_of_mne_are_such(self, cortex):
        mne = pytest.importorskip("mne")
        # Vertex numbers of both hemispheres are alike; only one of them is meant.
        label = mne.Label(np.sort(cortex.vertices[:5]), hemi="lh", name="some", subject="fsaverage5")
        assert_array_equal(np.flatnonzero(check_labels([label], cortex) == 0), np.arange(5))

    @pytest.mark.parametrize(
        ("labels", "words"),
        [
            ([0, 1, 1], "labels has source = 3, but there are 4"),
            ([0, 1, 1, 3], "labels go up to 3, but no source has 2; number the parcels without gaps"),
            ([1, 2, -1, 1], "no source has 0"),
            ([-1] * 4, "cover no source: all are -1"),
            ([0, 1, -2, 0], "go down to -2"),
            ([0, 1, 0.5, 0], "must be whole numbers"),
            ([0, 1, np.nan, 0], "NaN"),
            ([True, False, True, True], "true and false"),
            ([[0, 1], [0, 1]], "wants 1 axes"),
            ([], "labels has source = 0"),
            (["a", "b", "a", "b"], "must be an array of real numbers"),
            ({}, "cover no source: there are none"),
            ({"a": []}, "label 'a' is empty; drop it"),
            ({"a": [0, 1], "b": [2], "c": [1]}, "labels 'a' and 'c' overlap: both have source 1"),
            ({"a": [0, 4]}, "label 'a' names source 4, but the sources are 0 to 3"),
            ({"a": [0, -1]}, "label 'a' names source -1"),
            ({"a": [0.0, 1.0]}, "must be the indices of its sources"),
            ({"a": [True, False, True, True]}, "numpy.flatnonzero turns a mask into indices"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, labels, words):
        with pytest.raises(ValueError, match=words):
            check_labels(labels, 4)

    def test_labels_of_a_surface_that_do_not_fit(self, cortex, loose):
        def label(name="a", hemi="lh", vertices=cortex.vertices[:2]):
            return SimpleNamespace(name=name, hemi=hemi, vertices=vertices)

        with pytest.raises(ValueError, match="label 'a' covers no source: none of its 2 vertices is one"):
            check_labels([label(vertices=[10**6, 10**6 + 1])], cortex)
        with pytest.raises(ValueError, match="label 'a' has hemi = 'both'"):
            check_labels([label(hemi="both")], cortex)
        with pytest.raises(ValueError, match="two labels are called 'a'"):
            check_labels([label(), label(hemi="rh")], cortex)
        with pytest.raises(ValueError, match="labels 'a' and 'b' overlap"):
            check_labels([label(), label("b")], cortex)
        for without in (loose, 516):
            with pytest.raises(ValueError, match="want sources that know their vertices and hemispheres"):
                check_labels([label()], without)
