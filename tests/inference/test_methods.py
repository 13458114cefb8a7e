"""The registry of methods: rooms, options and their doors, and which method is chosen."""

import inspect
import re
import sys
from importlib import import_module
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from referee import toy

import bayesinv as bi
from bayesinv.inference import infer as room_of_infer
from bayesinv.inference.methods import (
    COMMON_OPTIONS,
    MAX_DIMENSION_NUTS,
    MAX_DIMENSION_QUADRATURE,
    METHODS,
    Method,
    MethodFunction,
    Option,
    check_options,
    choose,
    fitting,
    integer_from,
)

WRONG = {
    "chains": [0, -2, 1.5, "4", True, None],
    "tune": [0, -1, 1000.0, "many"],
    "sweeps": [49, 0, 300.0, "many"],
    "warm": [0, -1, 10.5],
    "step": [0, -0.5, 2.0, "0.5", True, None],
    "sampler": ["stan", "Nutpie", 3, ["pymc"]],
    "progress": ["yes", 1, None],
    "draws": [0, -1, 1.5, 100.0, "100", True, None],
    "rng": [-7, 1.5, True, "seed", np.random.RandomState(1)],
}
RIGHT = {
    "chains": [1, 4, np.int64(2)],
    "tune": [1, 1000],
    "sweeps": [50, np.int64(300)],
    "warm": [1, 150],
    "step": [0.25, 1, np.float64(0.5)],
    "sampler": ["nutpie", "pymc", None],
    "progress": [True, False, np.True_],
    "draws": [1, np.int32(5)],
    "rng": [None, 7, np.int64(7), np.random.default_rng(7)],
}
OPTIONS = [(method, name) for method in METHODS for name in (*COMMON_OPTIONS, *METHODS[method].options)]

each_method = pytest.mark.parametrize("name", METHODS)


def density(dimension, noise_tails="normal"):
    """What a method asks of a density before it is run."""
    free = [SimpleNamespace(name=f"h{k}") for k in range(dimension)]
    names = [variable.name for variable in free]
    return SimpleNamespace(
        dimension=dimension,
        names=names,
        structural=(),
        model=SimpleNamespace(free_RVs=free),
        observation=SimpleNamespace(
            problem=SimpleNamespace(noise_tails=noise_tails), currents=SimpleNamespace(focal=None, local=None)
        ),
    )


@pytest.fixture
def idle(monkeypatch):
    """No model is built and no density worked out: whatever is raised is raised before."""

    def work(*_):
        raise AssertionError("work has begun")

    monkeypatch.setattr(room_of_infer, "build", work)


@pytest.fixture
def registry():
    """The registry, in the same order afterwards."""
    before = dict(METHODS)
    yield METHODS
    METHODS.clear()
    METHODS.update(before)


class TestRegistry:
    @each_method
    def test_a_room_has_the_signature_that_its_entry_says(self, name):
        method = METHODS[name]
        function = import_module(method.room).posterior
        assert method.posterior is function
        given = inspect.signature(function).parameters.values()
        wanted = list(inspect.signature(MethodFunction.__call__).parameters.values())[1:]
        shared = [(p.name, p.kind, p.default, p.annotation) for p in wanted if p.kind == p.POSITIONAL_OR_KEYWORD]
        own = [p for p in given if p.kind != p.POSITIONAL_OR_KEYWORD]
        assert [(p.name, p.kind, p.default, p.annotation) for p in given if p not in own] == shared
        assert {p.name: p.default for p in own} == {key: option.default for key, option in method.options.items()}
        assert all(p.kind == p.KEYWORD_ONLY for p in own)
        assert inspect.signature(function).return_annotation == "Posterior"

    def test_options_of_all_methods_are_those_of_infer_and_infer_many(self):
        for verb in (bi.infer, bi.infer_many):
            parameters = inspect.signature(verb).parameters
            wanted = {name: option.default for name, option in COMMON_OPTIONS.items()}
            assert {name: parameters[name].default for name in COMMON_OPTIONS} == wanted

    @each_method
    def test_says_what_it_is_for(self, name):
        assert METHODS[name].name == name
        assert re.fullmatch(r"[A-Z].{30,}\.", METHODS[name].purpose)
        assert not set(METHODS[name].options) & set(COMMON_OPTIONS)

    def test_registering_loads_no_room(self):
        import subprocess

        code = (
            "import sys, bayesinv.inference.methods as m; "
            "print([one.room for one in m.METHODS.values() if one.room in sys.modules])"
        )
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "[]"

    def test_a_new_method_is_an_entry_and_a_room(self, monkeypatch, registry):
        def posterior(density, name, rng, draws, timings, *, sweeps=5):
            return name, draws, sweeps

        room = ModuleType("bayesinv.inference.another")
        room.posterior = posterior
        monkeypatch.setitem(sys.modules, room.__name__, room)
        entry = Method(
            "another",
            "A method for priors of two free hyperparameters.",
            room.__name__,
            lambda density: None if density.dimension == 2 else "another wants two",
            lambda density: "there are two",
            {"sweeps": Option(integer_from(2), 5, "sweeps over all patches")},
            instead=True,
        )
        first = {"another": entry, **registry}
        registry.clear()
        registry.update(first)
        problem = toy()
        assert str(bi.choose_method("hierarchical", problem)) == "another: there are two"
        assert bi.infer("hierarchical", problem, draws=7, sweeps=3) == ("hierarchical", 7, 3)
        assert bi.infer("hierarchical", problem, "quadrature", draws=7) == ("hierarchical", 7, 5)
        assert bi.choose_method("depth_weighted", problem).method == "quadrature"
        with pytest.raises(ValueError, match="another wants two"):
            bi.infer("depth_weighted", problem, "another")
        with pytest.raises(ValueError, match="sweeps is 1, but at least 2 is wanted"):
            bi.infer("hierarchical", problem, "another", sweeps=1)


class TestOptions:
    def test_every_option_has_wrong_and_right_values_here(self):
        assert {name for _, name in OPTIONS} == set(WRONG) == set(RIGHT)

    @pytest.mark.parametrize("wrong", ["chians", "drwas", "lattice", "Progress"])
    @each_method
    def test_a_wrong_name_is_refused_with_the_right_ones(self, idle, name, wrong):
        words = f"^no option of method '{name}' named '{wrong}'[;:] "
        for call in (
            lambda: bi.infer("hierarchical", toy(), name, **{wrong: 1}),
            lambda: bi.infer_many("hierarchical", [toy()], name, progress=False, **{wrong: 1}),
            lambda: bi.sbc("hierarchical", toy(), 2, method=name, **{wrong: 1}),
        ):
            with pytest.raises(ValueError, match=words) as raised:
                call()
            message = str(raised.value)
            for option, entry in (COMMON_OPTIONS | METHODS[name].options).items():
                assert f"{option}: {entry.meaning}" in message
            nearest = {"chians": "chains", "Progress": "progress", "drwas": "draws"}.get(wrong)
            taken = nearest in COMMON_OPTIONS | METHODS[name].options
            assert (f": did you mean {nearest!r}? There are " in message) == taken

    @each_method
    def test_an_option_of_another_method_is_refused_with_its_owner(self, idle, name):
        for other, method in METHODS.items():
            for option in set(method.options) - set(METHODS[name].options):
                with pytest.raises(ValueError, match=f"'{name}' named '{option}'.*method '{other}' takes {option}"):
                    bi.infer("hierarchical", toy(), name, **{option: method.options[option].default})

    @pytest.mark.parametrize(("name", "option"), OPTIONS)
    def test_wrong_values_are_refused_and_right_ones_taken(self, idle, name, option):
        for value in WRONG[option]:
            words = f"^{re.escape(f'{option} is {value!r}, but ')}.* is wanted \\({option}: "
            with pytest.raises(ValueError, match=words):
                bi.infer("hierarchical", toy(), name, **{option: value})
            if option != "progress":  # which is one of infer_many itself
                with pytest.raises(ValueError, match=words):
                    bi.infer_many("hierarchical", [toy()], name, **{option: value})
        for value in RIGHT[option]:
            check_options(name, {option: value})
            check_options(None, {option: value})

    @pytest.mark.parametrize("option", WRONG)
    def test_values_are_refused_where_no_method_is_named(self, idle, option):
        for value in WRONG[option]:
            with pytest.raises(ValueError, match=f"^{option} is .* is wanted"):
                bi.infer("hierarchical", toy(), **{option: value})
            with pytest.raises(ValueError, match=f"^{option} is .* is wanted"):
                bi.infer_many("hierarchical", [toy()], **{option: value})

    def test_where_no_method_is_named_an_option_is_one_of_the_method_that_is_chosen(self, idle, monkeypatch):
        for verb, problems in ((bi.infer, toy()), (bi.infer_many, [toy()])):
            with pytest.raises(ValueError, match=r"no option of any method named 'chians'.*did you mean 'chains'\?"):
                verb("hierarchical", problems, chians=2)
        monkeypatch.undo()
        with pytest.raises(ValueError, match=r"no option of method 'quadrature' named 'chains'.*'nuts' takes chains"):
            bi.infer("hierarchical", toy(), chains=2)

    def test_options_of_a_method_that_is_not_needed_are_checked_too(self):
        assert bi.infer("minimum_norm", toy(), "nuts", chains=2).method == "exact"
        with pytest.raises(ValueError, match=r"chains is 1\.5"):
            bi.infer("minimum_norm", toy(), "nuts", chains=1.5)


class TestChoice:
    @pytest.mark.parametrize(
        ("dimension", "sentence"),
        [
            (0, "exact: no hyperparameter is free, so the posterior is one Gaussian"),
            (2, "quadrature: 2 free hyperparameters (h0, h1) are integrated on a lattice, with exact evidence"),
            (
                MAX_DIMENSION_QUADRATURE,
                "quadrature: 4 free hyperparameters (h0, h1, h2, h3) are integrated on a lattice, with exact evidence",
            ),
            (
                MAX_DIMENSION_QUADRATURE + 1,
                "nuts: 5 free hyperparameters (h0, h1, h2, h3, h4) are too many for a lattice, so they are sampled",
            ),
            (
                MAX_DIMENSION_NUTS,
                f"nuts: 40 free hyperparameters ({', '.join(f'h{k}' for k in range(40))}) are too many for a lattice, "
                "so they are sampled",
            ),
            (
                MAX_DIMENSION_NUTS + 1,
                "laplace: 41 free hyperparameters are too many to sample quickly: a Gaussian at the mode",
            ),
        ],
    )
    def test_sentence_by_number_of_hyperparameters(self, dimension, sentence):
        assert str(choose(density(dimension))) == sentence

    def test_heavy_tails_have_one_method(self):
        assert fitting("gibbs", density(2, "student")).name == "gibbs"
        for name in ("exact", "quadrature", "nested_laplace", "laplace", "nuts"):
            for dimension in (0, 2):
                with pytest.raises(
                    ValueError, match=rf"'{name}' takes noise_tails='normal', .* method 'gibbs' samples"
                ):
                    fitting(name, density(dimension, "student"))
        for name in ("active_set", "local_scales"):
            with pytest.raises(ValueError, match=f"method '{name}' wants a model with"):
                fitting(name, density(2, "student"))
        assert str(choose(density(0, "student"))).startswith("gibbs: a few sensors and samples")

    def test_which_method_fits(self):
        for name in METHODS:
            assert fitting(name, density(0)).name == "exact"
        for name in ("laplace", "nuts", "quadrature"):
            assert fitting(name, density(MAX_DIMENSION_QUADRATURE)).name == name
        for name in ("laplace", "nuts"):
            assert fitting(name, density(MAX_DIMENSION_NUTS + 1)).name == name
        with pytest.raises(ValueError, match="method 'exact' wants no free hyperparameter, but the model has h0, h1"):
            fitting("exact", density(2))
        with pytest.raises(ValueError, match="quadrature takes up to 4 hyperparameters, but the model has 5; use"):
            fitting("quadrature", density(5))
        with pytest.raises(ValueError, match=r"no method named 'ntus'.*did you mean 'nuts'\?"):
            fitting("ntus", density(2))
