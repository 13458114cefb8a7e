"""The wheel holds what the checkout holds, models included."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shipped() -> set[str]:
    """Files that a user of the wheel must find, by their place inside it."""
    library = {f"bayesinv/{path.relative_to(ROOT / 'bayesinv')}" for path in (ROOT / "bayesinv").rglob("*.py")}
    models = {f"bayesinv/models/{path.name}" for path in (ROOT / "models").glob("*.py")}
    settings = {f"bayesinv/configurations/{path.name}" for path in (ROOT / "bayesinv" / "configurations").iterdir()}
    assets = {f"bayesinv/report/assets/{path.name}" for path in (ROOT / "bayesinv" / "report" / "assets").iterdir()}
    return library | models | settings | assets | {"bayesinv/py.typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built in a copy, so that nothing left by an earlier build gets into it."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("bayesinv", "models"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(copy)], check=True, capture_output=True
    )
    (made,) = out.glob("*.whl")
    return made


@pytest.mark.slow
def test_the_wheel_holds_what_the_checkout_holds(wheel):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == shipped()


@pytest.mark.slow
def test_an_installed_wheel_finds_its_models(wheel, tmp_path):
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)],
        check=True,
        capture_output=True,
    )
    code = "import bayesinv, sys; print(bayesinv.__file__); print(*bayesinv.list_models())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"},
    ).stdout.split()
    assert found[0].startswith(str(target))
    assert {"minimum_norm", "hierarchical", "depth_weighted"} <= set(found[1:])
