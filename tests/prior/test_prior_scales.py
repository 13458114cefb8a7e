"""The priors of scales and time constant, which models share: card, formula and density say the same."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import as_written, toy
from scipy.stats import halfcauchy, lognorm, truncnorm

import bayesinv as bi
from bayesinv.prior.scales import FORMULAS

FILES = sorted((Path(__file__).resolve().parents[2] / "models").glob("[!_]*.py"))
LEARNED = [path for path in FILES if path.stem != "minimum_norm"]
VALUES = np.array([0.3, 0.9, 1.0, 2.5])

each_model = pytest.mark.parametrize("path", LEARNED, ids=lambda path: path.stem)


def log_density(make, values, *arguments):
    """Log density of the variable that a function makes, at some values."""
    import pymc as pm

    with pm.Model():
        variable = make(*arguments)
    return pm.logp(variable, values).eval(mode=as_written()), variable.name


@pytest.mark.parametrize("quiet", [0, 9])
def test_the_noise_scale_has_the_density_of_its_formula(quiet):
    widths = re.fullmatch(
        r"LogNormal\(0, ([\d.]+)\) where there is a baseline, LogNormal\(0, ([\d.]+)\) where there is none",
        FORMULAS["noise_scale(problem)"],
    )
    width = float(widths.group(1 if quiet else 2))
    problem = toy(quiet=quiet)
    for name in ("noise", "ratio_eeg"):
        found, named = log_density(bi.noise_scale, VALUES, problem, *([] if name == "noise" else [name]))
        assert named == name
        # PyTensor takes the logarithm of a width that single precision holds, such as 1/2, in single precision.
        assert_allclose(found, lognorm(width).logpdf(VALUES), rtol=0, atol=1e-7)


def test_the_source_scale_has_the_density_of_its_formula():
    problem = toy()
    assert FORMULAS["source_scale(problem)"] == "HalfCauchy(problem.scale_guess)"
    values = problem.scale_guess * VALUES
    for name in ("scale", "another"):
        found, named = log_density(bi.source_scale, values, problem, *([] if name == "scale" else [name]))
        assert named == name
        # PyTensor takes the logarithm of 2 / pi in single precision.
        assert_allclose(found, halfcauchy(scale=problem.scale_guess).logpdf(values), rtol=0, atol=1e-7)


def test_the_global_scale_has_the_density_of_its_formula():
    problem = toy(sources=11)
    assert FORMULAS["global_scale(problem)"] == "HalfCauchy(problem.scale_guess / sqrt(number of sources))"
    median = problem.scale_guess / np.sqrt(11)
    found, named = log_density(bi.global_scale, median * VALUES, problem)
    assert named == "scale"
    assert_allclose(found, halfcauchy(scale=median).logpdf(median * VALUES), rtol=0, atol=1e-7)


@pytest.mark.parametrize("step", [0.001, 1.0])
def test_the_time_constant_has_the_density_of_its_formula(step):
    import pymc as pm

    problem = toy().with_fields(times=step * np.arange(len(toy().times)))
    span, low = step * (len(problem.times) - 1), 0.5 * step
    assert FORMULAS["time_constant(problem)"].startswith(
        "LogNormal(log 20 ms, 1), between half a sample and five times"
    )
    with pm.Model() as built:
        bi.time_constant(problem)
    values = np.log(np.array([1.2 * low, 0.5 * span, 4.9 * span]))
    middle = np.log(np.clip(0.02, 1.1 * low, 4.5 * span))
    limits = np.log([low, 5 * span]) - middle
    found = pm.logp(built["log_constant"], values).eval(mode=as_written())
    assert_allclose(found, truncnorm(*limits, loc=middle).logpdf(values), rtol=0, atol=1e-6)
    assert_allclose(built["constant"].eval({built["log_constant"]: values[1]}), 0.5 * span)


def test_a_time_constant_wants_samples():
    problem = toy()
    with pytest.raises(ValueError, match="at least 3 samples, but there are 2"):
        bi.time_constant(bi.Problem.from_arrays(problem.gain, problem.recording[:, :2]))


def test_a_field_is_as_strong_at_the_global_scale_as_at_the_source_scale_without_local_ones(rng):
    """In the median, and within the factor by which the median of a sum of n squares differs from n²."""
    local = np.abs(rng.standard_cauchy((2000, 400)))
    assert 0.7 < np.median(np.sum(local**2, axis=1)) / 400**2 < 2.0


SCALES = {"source_scale(problem)", "global_scale(problem)"}


def calls_of(path):
    """All calls in a model's code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def called(path):
    """The shared priors that a model calls, and their formulas."""
    return {call: formula for call, formula in FORMULAS.items() if call in calls_of(path)}


@each_model
def test_a_card_names_the_priors_that_its_code_calls(path):
    card, found = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), called(path)
    assert "noise_scale(problem)" in found
    assert len(SCALES & {*found}) == 1
    for call in found:
        assert f"~ {call}" in card
    for call in {*FORMULAS} - {*found}:
        assert f"~ {call}" not in card
    # ast writes strings in single quotes.
    assert not [call for call in calls_of(path) if re.match(r"pm\.\w+\(f?'(noise'|scale'|ratio_)", call)]


@each_model
def test_read_card_writes_the_formulas_out(path):
    card = bi.read_card(path.stem)
    for call, formula in called(path).items():
        assert f"~ {formula}" in card
        assert call not in card


def test_a_card_without_them_stays_as_it_is():
    assert bi.read_card("minimum_norm") == ast.get_docstring(
        ast.parse(next(path for path in FILES if path.stem == "minimum_norm").read_text(encoding="utf-8"))
    )
