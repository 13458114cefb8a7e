"""The rooms of the package and the order in which they know each other."""

import ast
import importlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bayesinv"
MODELS = ROOT / "models"

# A file imports, at its top or inside a function, only from packages above its own, or from its own.
ORDER = """
    axes arguments exits memory atomic progress versions wording geometry interpolation head forward problem covariance
    evidence prior posterior inference classical simulation scoring criticism evaluation bridges figures
    report cli __init__ __main__
""".split()  # noqa: SIM905
FORBIDDEN = {"utils", "core", "base", "helpers", "common", "misc"}
LONGEST, MEDIAN = 500, 200
LONGEST_FUNCTION = 80

# Late imports of a later package that are meant: (file, module) and the reason.
LATE = {
    ("exits.py", "bridges.archive"): "posterior.save, a way out that users look for on the noun",
    ("exits.py", "bridges.arviz"): "posterior.to_arviz, likewise",
    ("exits.py", "bridges.mne_maps"): "posterior.to_mne, likewise",
    ("exits.py", "bridges.mne_operator"): "posterior.to_inverse_operator, likewise",
    ("exits.py", "bridges.mne_lead_field"): "lead_field.to_mne, likewise",
}


class Imports(ast.NodeVisitor):
    """Modules of the package that a file imports: (module, late), without what only type checkers see."""

    def __init__(self, path, root, text):
        self.path, self.root, self.depth = path, root, 0
        self.found = []
        self.tree = ast.parse(text)
        self.visit(self.tree)

    def add(self, module):
        """Note a module; a name imported from it is the module of that name, where there is one."""
        self.found.append((module, self.depth > 0))

    def is_file(self, module):
        path = self.root.joinpath(*module.split("."))
        return path.with_suffix(".py").is_file() or path.joinpath("__init__.py").is_file()

    def generic_visit(self, node):
        """Visit what a node is made of, but names and what is done with them, which are most of it."""
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.Name | ast.expr_context):
                self.visit(child)

    def visit_Import(self, node):
        for alias in node.names:
            if alias.name.split(".")[0] == self.root.name:
                self.add(alias.name.partition(".")[2])

    def visit_ImportFrom(self, node):
        assert node.level == 0, f"{self.path} imports relatively"
        if node.module.split(".")[0] == self.root.name:
            module = node.module.partition(".")[2]
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                self.add(inner if self.is_file(inner) else module)

    def visit_FunctionDef(self, node):
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_Lambda(self, node):
        self.visit_FunctionDef(node)

    def visit_If(self, node):
        names = {getattr(part, "id", getattr(part, "attr", None)) for part in ast.walk(node.test)}
        for child in node.orelse if "TYPE_CHECKING" in names else ast.iter_child_nodes(node):
            self.visit(child)

    def visit_Expr(self, node):
        if not (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)):  # a docstring
            self.generic_visit(node)

    def visit_Constant(self, node):
        """A module that stands as a string is imported by its name sooner or later."""
        if isinstance(node.value, str) and re.fullmatch(rf"{self.root.name}(\.\w+)+", node.value):
            module = node.value.partition(".")[2]
            while module and not self.is_file(module):
                module = module.rpartition(".")[0]
            if module:
                self.found.append((module, True))

    def only_its_version(self):
        """Whether the package's face is asked for nothing but the version."""
        attributes = [node for node in ast.walk(self.tree) if isinstance(node, ast.Attribute)]
        asked = [node.attr for node in attributes if ast.unparse(node.value) == self.root.name]
        named = [
            alias.name
            for n in ast.walk(self.tree)
            if isinstance(n, ast.ImportFrom) and n.module == self.root.name
            for alias in n.names
            if not self.is_file(alias.name)
        ]
        return {*asked, *named} <= {"__version__"}


@cache
def read(path, root, text):
    return Imports(path, root, text)


def imports_of(path, root):
    """What a file imports; read once as long as it says the same."""
    return read(path, root, path.read_text(encoding="utf-8"))


def files_of(root):
    return sorted(path for path in root.rglob("*.py") if "__pycache__" not in path.parts)


def room(path, root):
    """The room of a file; the files of a package share one."""
    return path.relative_to(root).with_suffix("").parts[0]


def upward(root, order, late=()):
    """Imports that name a later room, or the package's face, as sentences."""
    found = []
    for path in files_of(root):
        mine, name = room(path, root), path.relative_to(root).as_posix()
        if mine == "__init__":
            continue
        imports = imports_of(path, root)
        for module, is_late in imports.found:
            other = module.split(".")[0]
            if not module:
                if mine not in ("cli", "__main__") and not imports.only_its_version():
                    found.append(f"{name} imports the package's face")
            elif other not in order:
                found.append(f"{name} imports {module}, which has no place in the order")
            elif other != mine and order.index(other) >= order.index(mine) and not (is_late and (name, module) in late):
                found.append(f"{name} imports {module}, a later room")
    return sorted(set(found))


def circles(root, late=()):
    """Files that import each other, at the top or later: sets of modules, each reachable from each.

    late : what is imported late and meant, see `LATE`; a way out of a noun leads downstream and back by design
    """
    paths = {path.relative_to(root).with_suffix("").as_posix().replace("/", "."): path for path in files_of(root)}
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items() if name != "__init__"}
    edges = {
        name: {
            module
            for module, is_late in imports_of(path, root).found
            if module in paths and not (is_late and (path.relative_to(root).as_posix(), module) in late)
        }
        - {name}
        for name, path in paths.items()
    }

    def reached(start):
        seen, left = set(), [start]
        while left:
            for one in edges[left.pop()] - seen:
                seen.add(one)
                left.append(one)
        return seen

    beyond = {name: reached(name) for name in paths}
    rings = {frozenset({one for one in beyond[name] if name in beyond[one]}) for name in paths if name in beyond[name]}
    return sorted(map(sorted, rings))


def length(function):
    """Lines of a function without its docstring."""
    words = function.body[0] if ast.get_docstring(function) is not None else None
    return function.end_lineno - function.lineno + 1 - (words.end_lineno - words.lineno + 1 if words else 0)


def private(root):
    """Imports of a name that begins with an underscore: it belongs to the file that defines it."""
    return [
        f"{path.relative_to(root).as_posix()} imports {alias.name} from {node.module}"
        for path in files_of(root)
        for node in ast.walk(imports_of(path, root).tree)
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == root.name
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]


class TestRooms:
    def test_every_file_has_a_room(self):
        assert {room(path, PACKAGE) for path in files_of(PACKAGE)} <= set(ORDER)

    def test_no_room_is_a_drawer(self):
        for path in files_of(PACKAGE):
            assert not FORBIDDEN & set(path.relative_to(PACKAGE).with_suffix("").parts)

    def test_imports_name_only_earlier_rooms(self):
        assert upward(PACKAGE, ORDER, LATE) == []

    def test_every_late_import_that_is_allowed_is_made(self):
        made = {
            (path.relative_to(PACKAGE).as_posix(), module)
            for path in files_of(PACKAGE)
            for module, late in imports_of(path, PACKAGE).found
            if late
        }
        assert set(LATE) <= made

    def test_no_files_import_each_other(self):
        assert circles(PACKAGE, LATE) == []

    def test_what_is_private_stays_in_its_file(self):
        assert private(PACKAGE) == []

    def test_files_are_short(self):
        every = [*files_of(PACKAGE), *files_of(MODELS)]
        lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in every}
        assert {str(path.relative_to(ROOT)): count for path, count in lengths.items() if count > LONGEST} == {}
        told = sorted(count for path, count in lengths.items() if path.name != "__init__.py")
        assert told[len(told) // 2] <= MEDIAN

    def test_functions_are_short(self):
        """Without their docstrings, with their options."""
        found = {
            f"{path.relative_to(ROOT)} {node.name}": length(node)
            for path in (*files_of(PACKAGE), *files_of(MODELS))
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef)
        }
        assert {name: lines for name, lines in found.items() if lines > LONGEST_FUNCTION} == {}

    def test_no_room_bears_the_name_of_a_public_verb(self):
        import bayesinv as bi

        assert not {room(path, PACKAGE) for path in files_of(PACKAGE)} & set(bi.__all__)

    @pytest.mark.parametrize("path", files_of(PACKAGE), ids=lambda path: str(path.relative_to(ROOT)))
    def test_its_first_line_is_the_name_on_the_door(self, path):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith(('"""', 'r"""'))
        assert len(first.strip('r"')) > 10


class TestTheLawsBite:
    """On packages that are made up, what must be found is found."""

    @pytest.fixture
    def made(self, tmp_path):
        def write(**files):
            root = tmp_path / "house"
            for name, text in {"__init__": '"""The face of it."""', **files}.items():
                path = root / f"{name.replace('__in__', '/')}.py"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text + "\n", encoding="utf-8")
            return root

        return write

    def test_an_orderly_house_passes(self, made):
        root = made(one="x = 1", two__in__a="from house.one import x", two__in__b="from house.two.a import x")
        assert upward(root, ["one", "two"]) == circles(root) == private(root) == []

    @pytest.mark.parametrize(
        "text",
        [
            "from house.two.a import x",
            "from house.two import a",
            "import house.two.a",
            "def f():\n    from house.two.a import x",
            "f = lambda: __import__('importlib').import_module('house.two.a')",
            "ENTRIES = {'x': 'house.two.a.x'}",
            "class A:\n    def f(self):\n        import house.two.a as a",
        ],
    )
    def test_an_upward_import_is_found(self, made, text):
        root = made(one=text, two__in__a="x = 1")
        assert upward(root, ["one", "two"]) == ["one.py imports two.a, a later room"]

    def test_a_late_import_is_allowed_by_name_and_a_top_one_is_not(self, made):
        late = {("one.py", "two.a"): "a reason"}
        root = made(one="def f():\n    from house.two.a import x", two__in__a="x = 1")
        assert upward(root, ["one", "two"], late) == []
        root = made(one="from house.two.a import x", two__in__a="x = 1")
        assert upward(root, ["one", "two"], late) == ["one.py imports two.a, a later room"]

    def test_what_only_type_checkers_see_is_free(self, made):
        text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.two.a import x"
        root = made(one=text, two__in__a="from house.one import TYPE_CHECKING as x")
        assert upward(root, ["one", "two"]) == circles(root) == []

    def test_the_face_is_asked_for_its_version_alone(self, made):
        root = made(one="def f():\n    import house\n    return house.__version__")
        assert upward(root, ["one"]) == []
        root = made(one="def f():\n    import house\n    return house.verb")
        assert upward(root, ["one"]) == ["one.py imports the package's face"]

    @pytest.mark.parametrize("back", ["from house.two.a import x", "def f():\n    from house.two.a import x"])
    def test_a_circle_within_a_package_is_found(self, made, back):
        root = made(two__in__a="from house.two.b import y", two__in__b="from house.two.c import z", two__in__c=back)
        assert circles(root) == [["two.a", "two.b", "two.c"]]
        assert upward(root, ["two"]) == []

    def test_a_private_name_that_crosses_is_found(self, made):
        root = made(one="_x = 1", two="from house.one import _x")
        assert private(root) == ["two.py imports _x from house.one"]


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.py")), ids=lambda path: path.name)
def test_models_know_pymc_numpy_and_the_public_face_alone(path):
    import bayesinv as bi

    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "bayesinv":
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
