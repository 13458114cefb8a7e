import json
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest
from referee import toy

import bayesinv as bi
from bayesinv.prior.catalogue import build

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning")

GOOD = '''"""A model of mine.

    scale ~ HalfNormal(problem.scale_guess)

References: none.
"""
import pymc as pm
from bayesinv import Currents

def model(problem):
    with pm.Model(coords=problem.coords) as built:
        scale = pm.HalfNormal("scale", problem.scale_guess)
        Currents(variance=scale**2).observe("recording", problem)
    return built
'''


@pytest.fixture
def write(tmp_path):
    def written(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return written


class TestList:
    def test_names_every_file_with_the_first_line_of_its_card(self):
        models = bi.list_models()
        assert {"minimum_norm", "hierarchical", "depth_weighted"} <= set(models)
        assert models["minimum_norm"].startswith("Minimum norm: ")
        assert "__init__" not in models

    def test_reads_cards_without_running_them(self, write):
        path = write('"""A card.\n\nMore of it."""\nraise RuntimeError\n')
        assert bi.read_card(path) == "A card.\n\nMore of it."
        assert bi.read_card(write("x = 1\n")) == "(no card)"
        with pytest.raises(ValueError, match=r"mine\.py could not be read: SyntaxError"):
            bi.read_card(write("def model(:\n"))

    def test_needs_no_pymc(self):
        code = "import bayesinv, sys, json; print(json.dumps([len(bayesinv.list_models()), 'pymc' in sys.modules]))"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        count, loaded = json.loads(found.stdout)
        assert count >= 3
        assert not loaded

    def test_a_checkout_has_its_models_where_a_copy_of_it_is_installed(self, tmp_path):
        """Python started in its folder imports its `bayesinv`, which has no `models` inside."""
        (tmp_path / "bayesinv").symlink_to(Path(bi.__file__).parent, target_is_directory=True)
        code = (
            "import sys; sys.meta_path = [one for one in sys.meta_path if 'editable' not in repr(one).lower()];"
            "import bayesinv; print(bayesinv.__file__, len(bayesinv.list_models()))"
        )
        found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert found.stdout.split() == [str(tmp_path / "bayesinv" / "__init__.py"), str(len(bi.list_models()))]


class TestLoad:
    def test_a_users_file_works_where_a_name_works(self, write):
        path = write(GOOD)
        problem = toy()
        for given in (path, str(path), bi.load_model(path), bi.load_model(path)(problem)):
            posterior = bi.infer(given, problem, draws=200)
            assert posterior.method == "quadrature"
        assert bi.infer(path, problem, draws=200).model == str(path)

    @pytest.mark.slow
    def test_a_users_function_is_pickled_by_value(self, write, tmp_path):
        sent = tmp_path / "sent.pkl"
        sent.write_bytes(cloudpickle.dumps(bi.load_model(write(GOOD))))
        (tmp_path / "mine.py").unlink()
        code = f"import pickle; print(pickle.load(open({str(sent)!r}, 'rb')).__name__)"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "model"

    def test_two_files_of_one_name_stay_two(self, write, tmp_path):
        (tmp_path / "other").mkdir()
        one = bi.load_model(write("VALUE = 1\ndef model(problem):\n    return VALUE\n"))
        two = bi.load_model(write("VALUE = 2\ndef model(problem):\n    return VALUE\n", "other/mine.py"))
        assert (one(None), two(None)) == (1, 2)

    def test_shipped_functions_have_a_name_of_the_package(self):
        assert bi.load_model("hierarchical").__module__ == "bayesinv.models.hierarchical"
        pickle.dumps(bi.load_model("hierarchical").__module__)


class TestDoor:
    def test_unknown_name_suggests_the_nearest(self):
        with pytest.raises(
            ValueError,
            match=r"'minimum_nrom': did you mean 'minimum_norm'\? There are .*, or give the path of a \.py file",
        ):
            bi.load_model("minimum_nrom")

    @pytest.mark.parametrize("path", ["nowhere/mine.py", "mine.py", "/nowhere/mine"])
    def test_missing_file(self, path):
        with pytest.raises(FileNotFoundError, match=r"no model file .*mine.*; give the path of a .py file"):
            bi.infer(path, toy())

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("raise RuntimeError('broken')\n", r"mine\.py could not be read: RuntimeError: broken"),
            ("import nonsense_that_is_not\n", "could not be read: ModuleNotFoundError"),
            ("def model(:\n", "could not be read: SyntaxError"),
            ("x = 1\n", r"mine\.py defines no function model\(problem\)"),
            ("model = 3\n", r"mine\.py defines no function model\(problem\)"),
            (
                "def model(problem):\n    return 1 / 0\n",
                r"model '.*mine\.py' raised ZeroDivisionError: division by zero",
            ),
            ("def model():\n    pass\n", r"model '.*mine\.py' raised TypeError"),
            (
                "def model(problem):\n    pass\n",
                r"model '.*mine\.py' returned NoneType, but must return the pm.Model it built",
            ),
            (
                "import pymc as pm\ndef model(problem):\n    return pm.Model()\n",
                r"model '.*mine\.py': the model observes no recording",
            ),
        ],
    )
    def test_a_file_that_is_no_model(self, write, text, words):
        path = write(text)
        with pytest.raises(ValueError, match=words):
            bi.infer(path, toy())
        with pytest.raises(ValueError, match=words):
            bi.choose_method(path, toy())

    def test_what_is_no_model_at_all(self):
        with pytest.raises(ValueError, match=r"a model is a name, the path of a .py file, a function .* not 3"):
            bi.infer(3, toy())

    def test_a_model_of_another_problem(self):
        built = bi.load_model("hierarchical")(toy(seed=1))
        with pytest.raises(ValueError, match="observes another problem than the one given"):
            bi.infer(built, toy(seed=2))

    def test_a_broken_file_leaves_no_module_behind(self, write):
        with pytest.raises(ValueError, match="RuntimeError"):
            bi.load_model(write("raise RuntimeError\n", "half.py"))
        assert "bayesinv_model_half" not in sys.modules

    def test_a_built_model_brings_its_name(self):
        problem = toy()
        assert build(bi.load_model("hierarchical")(problem), problem)[0] == "your model"


def test_a_name_is_not_built_inside_another_model():
    import pymc as pm

    problem = toy()
    with pm.Model(), pytest.raises(ValueError, match="leave it first"):
        bi.infer("hierarchical", problem)
