

def test_points_of_no_weight_are_left_out():
    """A long tail has points whose weights are below the smallest number."""
    points = np.linspace(0.0, 60.0, 121)
    found, weights = gauss_rule(points, np.exp(-0.4 * points**2), 60)
    assert (weights > 0).all()
    assert_allclose(weights.sum(), 1.0)
    assert len(found) == len(weights)
