import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv.problem.noise import Noise
from bayesinv.problem.recording import Recording

SCALES = {"eeg": 4e-7, "grad": 5e-13, "mag": 2e-14}  # V, T/m, T: noise of an average of trials

THREE_KINDS = ("mag",) * 5 + ("grad",) * 7 + ("eeg",) * 6


def covariance(rng, kinds, rank=None, crossing=True):
    """A covariance in SI units, of the given rank, of sensors of these kinds."""
    count = len(kinds)
    roots = rng.normal(size=(count, rank or 3 * count)) / np.sqrt(rank or 3 * count)
    if not crossing:
        eeg = np.array([kind == "eeg" for kind in kinds])
        wide = np.zeros((count, 2 * roots.shape[1]))
        wide[eeg, : roots.shape[1]] = roots[eeg]
        wide[~eeg, roots.shape[1] :] = roots[~eeg]
        roots = wide
    scale = np.array([SCALES[kind] for kind in kinds])
    return scale[:, None] * (roots @ roots.T) * scale


def assert_whitens(noise, rank):
    W = noise.whitener
    assert W.shape == (rank, len(noise.covariance))
    assert_allclose(W @ noise.covariance @ W.T, np.eye(rank) * noise.averages, atol=1e-9 * noise.averages)


class TestWhitener:
    @pytest.mark.parametrize(
        "kinds", [("eeg",) * 6, ("mag",) * 5, ("mag",) * 4 + ("grad",) * 7, THREE_KINDS, THREE_KINDS[::-1]]
    )
    @pytest.mark.parametrize("crossing", [True, False])
    def test_makes_the_noise_white(self, rng, kinds, crossing):
        assert_whitens(Noise(covariance(rng, kinds, crossing=crossing), kinds), len(kinds))

    def test_kinds_need_not_be_given_even_where_units_differ(self, rng):
        assert_whitens(Noise(covariance(rng, THREE_KINDS)), len(THREE_KINDS))

    def test_undoes_the_covariance_on_its_range(self, rng):
        C = covariance(rng, ("eeg",) * 8, rank=5)
        noise = Noise(C)
        assert_whitens(noise, 5)
        field = C @ rng.normal(size=(8, 3)) / SCALES["eeg"] ** 2
        assert_allclose(
            np.sum((noise.whitener @ field) ** 2, axis=0),
            np.einsum("st,sr,rt->t", field, np.linalg.pinv(C, rcond=1e-9, hermitian=True), field),
            rtol=1e-9,
        )

    def test_is_blind_to_what_a_projector_removed(self, rng):
        C = covariance(rng, ("eeg",) * 7)
        removed = np.linalg.qr(rng.normal(size=(7, 2)))[0]
        P = np.eye(7) - removed @ removed.T
        noise = Noise(P @ C @ P)
        assert noise.ranks == {"sensor": 5}
        assert_whitens(noise, 5)
        assert_allclose(noise.whitener @ removed * SCALES["eeg"], 0, atol=1e-6)

    @pytest.mark.parametrize("given_rank", [True, False])
    @pytest.mark.parametrize("loading", [0.0, 1e-4])
    def test_is_blind_to_projectors_of_each_kind(self, rng, given_rank, loading):
        # A covariance that was regularised after projection shows the full rank, and the rank must be given.
        C = covariance(rng, THREE_KINDS)
        names = np.array(THREE_KINDS)
        P = np.eye(18)
        removed = np.zeros((18, 3))
        for column, kind in enumerate(("mag", "grad", "eeg")):
            mine = names == kind
            removed[mine, column] = 1 / np.sqrt(mine.sum())
        P -= removed @ removed.T
        scale = np.array([SCALES[kind] for kind in THREE_KINDS])
        rank = {"meg": 10, "eeg": 5} if given_rank or loading else None
        noise = Noise(P @ C @ P + loading * np.diag(scale**2), THREE_KINDS, rank)
        assert noise.ranks == {"sensor": 15}
        assert_allclose(noise.whitener @ (removed * scale[:, None]), 0, atol=1e-6)

    def test_average_reference_costs_one(self, rng):
        C = covariance(rng, ("eeg",) * 9)
        centre = np.eye(9) - 1 / 9
        noise = Noise(centre @ C @ centre, ("eeg",) * 9)
        assert noise.ranks == {"eeg": 8}
        assert_whitens(noise, 8)

    def test_a_dead_sensor_costs_one(self, rng):
        C = covariance(rng, ("mag",) * 5)
        C[2] = C[:, 2] = 0
        noise = Noise(C)
        assert_whitens(noise, 4)
        assert_allclose(noise.whitener[:, 2] * SCALES["mag"], 0, atol=1e-9)

    def test_an_average_has_less_noise(self, rng):
        C = covariance(rng, ("eeg",) * 4)
        for averages in (25, 1.2, 0.4):
            found = np.abs(Noise(C, averages=averages).whitener)
            assert_allclose(found, np.sqrt(averages) * np.abs(Noise(C).whitener), rtol=1e-9)

    def test_modalities_with_no_covariance_are_whitened_separately(self, rng):
        noise = Noise(covariance(rng, THREE_KINDS, crossing=False), THREE_KINDS)
        assert noise.ranks == {"meg": 12, "eeg": 6}
        assert noise.component_modality == ("meg",) * 12 + ("eeg",) * 6
        eeg = np.array([kind == "eeg" for kind in THREE_KINDS])
        assert_array_equal(noise.whitener[:12, eeg], 0)
        assert_array_equal(noise.whitener[12:, ~eeg], 0)


class TestRank:
    def test_one_that_is_smaller_drops_the_directions_of_least_noise(self, rng):
        C = covariance(rng, ("eeg",) * 6)
        noise = Noise(C, rank=4)
        assert_whitens(noise, 4)
        smallest = np.linalg.eigh(C / SCALES["eeg"] ** 2)[1][:, :2]
        assert_allclose(noise.whitener @ smallest * SCALES["eeg"], 0, atol=1e-9)

    def test_per_modality(self, rng):
        separate = Noise(covariance(rng, THREE_KINDS, crossing=False), THREE_KINDS, {"meg": 9, "eeg": 4})
        assert separate.ranks == {"meg": 9, "eeg": 4}
        assert_whitens(separate, 13)

    def test_of_correlated_modalities_adds(self, rng):
        together = Noise(covariance(rng, THREE_KINDS), THREE_KINDS, {"meg": 9, "eeg": 4})
        assert together.ranks == {"sensor": 13}
        assert_whitens(together, 13)

    @pytest.mark.parametrize("rank", [0, -1, 6, 7])
    def test_must_lie_within_the_covariance(self, rng, rank):
        C = covariance(rng, ("eeg",) * 8, rank=5)
        with pytest.raises(ValueError, match=rf"rank {rank} was given .* has rank 5; it must lie between 1 and that"):
            Noise(C, rank=rank)

    def test_is_a_whole_number(self, rng):
        with pytest.raises(ValueError, match=r"rank 2\.5 was given .* whole number"):
            Noise(covariance(rng, ("eeg",) * 4), rank=2.5)

    @pytest.mark.parametrize("rank", [True, "3", [3], np.nan, {"eeg": "3"}, {"eeg": None}, {"eeg": True}])
    def test_is_a_number(self, rng, rank):
        with pytest.raises(ValueError, match="was given for the eeg sensors, but a rank is a whole number"):
            Noise(covariance(rng, ("eeg",) * 4), ("eeg",) * 4, rank)

    @pytest.mark.parametrize("kinds", [("eeg",) * 4, ()])
    def test_of_sensors_that_are_not_there(self, rng, kinds):
        with pytest.raises(ValueError, match=r"rank 3 was given for the meg sensors, but n.*; give the rank of what"):
            Noise(covariance(rng, ("eeg",) * 4), kinds, {"meg": 3})

    @pytest.mark.parametrize("rank", [5, np.int64(5)])
    def test_of_two_modalities_is_two_numbers(self, rng, rank):
        with pytest.raises(ValueError, match=r'rank is one number .* give {"meg": ..., "eeg": ...}'):
            Noise(covariance(rng, THREE_KINDS, crossing=False), THREE_KINDS, rank)

    def test_of_a_group_that_does_not_exist(self, rng):
        with pytest.raises(ValueError, match="no group of sensors to give a rank of named 'mag'"):
            Noise(covariance(rng, THREE_KINDS), THREE_KINDS, {"mag": 3})


class TestDoor:
    def test_not_square(self):
        with pytest.raises(ValueError, match=r"shape \(3, 4\), but must be square"):
            Noise(np.ones((3, 4)))

    def test_empty(self):
        with pytest.raises(ValueError, match="noise covariance is empty"):
            Noise(np.zeros((0, 0)))

    def test_not_symmetric(self, rng):
        C = covariance(rng, THREE_KINDS)
        C[16, 0] *= 1.01
        with pytest.raises(ValueError, match="not symmetric"):
            Noise(C, THREE_KINDS)

    def test_rounding_is_no_asymmetry(self, rng):
        C = covariance(rng, THREE_KINDS)
        Noise(C * (1 + 1e-12 * rng.normal(size=C.shape)), THREE_KINDS)

    def test_negative_variance(self, rng):
        C = covariance(rng, THREE_KINDS)
        C[3, 3] *= -1
        with pytest.raises(ValueError, match="not positive: sensor 3 has variance -"):
            Noise(C, THREE_KINDS)

    @pytest.mark.parametrize("kinds", [(), THREE_KINDS])
    def test_not_positive_semidefinite_in_any_unit(self, rng, kinds):
        scale = np.array([SCALES[kind] for kind in THREE_KINDS])
        correlation = np.eye(18)
        correlation[0, 1] = correlation[1, 0] = 1.5
        with pytest.raises(ValueError, match="not positive semidefinite: smallest eigenvalue -5"):
            Noise(scale[:, None] * correlation * scale, kinds)

    def test_zero(self):
        with pytest.raises(ValueError, match=r"is zero \(rank 0\); nothing can be whitened"):
            Noise(np.zeros((4, 4)))

    def test_nan(self, rng):
        C = covariance(rng, THREE_KINDS)
        C[0, 0] = np.nan
        with pytest.raises(ValueError, match="noise covariance holds 1 NaN or infinite value of 324"):
            Noise(C)

    def test_kinds_of_another_number(self):
        with pytest.raises(ValueError, match="sensor = 4, but there are 3 kinds"):
            Noise(np.eye(4), ("eeg",) * 3)

    def test_unknown_kind(self):
        with pytest.raises(ValueError, match=r"no sensor kind named 'egg'.* did you mean 'eeg'\?"):
            Noise(np.eye(2), ("eeg", "egg"))

    @pytest.mark.parametrize("averages", [0, -3, np.nan, np.inf, True, "2", None])
    def test_averages(self, averages):
        with pytest.raises(ValueError, match=r"averages is .*, but must be a positive number of trials"):
            Noise(np.eye(3), averages=averages)
        with pytest.raises(ValueError, match=r"averages is .*, but must be a positive number of trials"):
            Recording(np.ones((2, 3)), np.arange(3.0), ("one", "two"), averages)
