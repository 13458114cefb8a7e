"""The rooms of the package and the order in which they know each other."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bayesinv"

# A file imports, when it is read, only from rooms above its own; a family is one room.
ORDER = """
    axes geometry atomic memory interpolation progress versions windows wording kernels mesh head sensors
    sources parcels smoothness sampling leadfield forward template template_mesh recording noise problem
    structure evidence currents prior catalogue posterior arviz_bridge inference tikhonov baselines resolution
    maps predictive simulate world forward_error scores calibration compare evaluation figures report archive
    mne_bridge scene demo study cli __init__ __main__
""".split()  # noqa: SIM905
FORBIDDEN = {"utils", "core", "base", "helpers", "common", "misc"}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
MODELS = sorted(path for path in (ROOT / "models").glob("*.py"))


def room(path):
    """The room of a file; the files of a family share one."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path, everywhere=False):
    """Modules that a file imports when it is read, without what only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))

    def visit(node):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            if node.module == "bayesinv":
                yield from (f"bayesinv.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not everywhere:
            return
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from visit(child)
        else:
            for child in ast.iter_child_nodes(node):
                yield from visit(child)

    return list(visit(tree))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
class TestRooms:
    def test_every_file_has_a_room(self, path):
        assert room(path) in ORDER

    def test_no_room_is_a_drawer(self, path):
        assert not FORBIDDEN & set(path.relative_to(PACKAGE).with_suffix("").parts)

    def test_imports_name_only_earlier_rooms(self, path):
        mine = ORDER.index(room(path))
        for module in imported(path):
            if module == "bayesinv":
                assert room(path) in ("cli", "__main__"), f"{path.name} imports the whole package"
            elif module.startswith("bayesinv.") and module != "bayesinv.__version__":
                other = module.split(".")[1]
                assert other in ORDER, f"{path.name} imports {module} from the package's face, not from its room"
                same_family = other == room(path) and path.parent != PACKAGE
                assert ORDER.index(other) < mine or same_family, f"{path.name} imports {module}, a later room"

    def test_nothing_is_drawn_before_figures(self, path):
        late = [module for module in imported(path, everywhere=True) if module.startswith("bayesinv.figures")]
        assert not late or ORDER.index(room(path)) >= ORDER.index("figures"), f"{path.name} imports {late} upstairs"

    def test_its_first_line_is_the_name_on_the_door(self, path):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith(('"""', 'r"""'))
        assert len(first.strip('r"')) > 10


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_models_know_pymc_numpy_and_the_public_face_alone(path):
    import bayesinv as bi

    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "bayesinv":
            # A verb and a room may share a name; from the package's face it is the verb.
            assert node.module == "bayesinv", f"{path.name} imports from {node.module}, not from bayesinv"
            assert {alias.name for alias in node.names} <= set(bi.__all__)
        elif isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] in {"pymc", "numpy"}
        elif isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= {"pymc", "numpy", "bayesinv"}


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, bayesinv; "
        "print([name for name in ('pymc', 'pytensor', 'mne', 'matplotlib', 'xarray', 'arviz', 'nilearn', 'numba', "
        "'nutpie', 'nibabel', 'h5py') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("face", ["bayesinv", "bayesinv.figures"])
def test_the_public_face_is_what_it_lists(face):
    package = importlib.import_module(face)
    assert sorted(package.__all__) == sorted(set(package.__all__))
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match=r"has no 'beauty'; it has .*compar"):
        package.__getattr__("beauty")


def test_no_room_of_figures_bears_the_name_of_a_picture():
    from bayesinv import figures

    assert not {path.stem for path in (PACKAGE / "figures").glob("*.py")} & set(figures.__all__)
