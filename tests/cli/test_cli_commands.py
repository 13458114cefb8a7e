"""Help, version, and the program in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Annotated, get_origin, get_type_hints

import pytest

import bayesinv as bi
from bayesinv import cli


class TestHelp:
    @pytest.mark.parametrize(
        ("tokens", "words"), [([], "demo"), (["--help"], "compare"), (["forward", "--help"], "--subjects-dir")]
    )
    def test_it_helps(self, tokens, words, capfd):
        assert cli.run(tokens) == 0
        assert words in capfd.readouterr().out

    def test_version(self, capfd):
        assert cli.run(["--version"]) == 0
        assert capfd.readouterr().out.strip() == bi.__version__


@pytest.mark.parametrize("one", ["fit", "demo"])
def test_what_commands_share_is_said_once(one):
    ours, theirs = (get_type_hints(cli.app[name].default_command, include_extras=True) for name in (one, "compare"))
    # A command returns its code; all else that two commands have in common is one option.
    shared = set(ours) & set(theirs) - {"return"}
    assert {"out", "seed", "overwrite"} <= shared
    for name in shared:
        assert get_origin(ours[name]) is Annotated
        assert ours[name] is theirs[name]


def test_it_runs_as_a_module():
    words = [sys.executable, "-m", "bayesinv", "--version"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == bi.__version__


def test_help_reads_no_heavy_library():
    words = (
        "import sys; from bayesinv import cli; cli.run(['fit', '--help']); "
        "print([name for name in ('pymc', 'mne', 'matplotlib', 'nilearn', 'arviz', 'xarray') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_command_in_a_process_of_its_own(files, tmp_path):
    """The installed entry point, with the real report: exit code, streams, a self-contained page."""
    words = [sys.executable, "-c", "from bayesinv.cli import main; main()", "fit", str(files["one"])]
    words += ["--forward", str(files["fwd"]), "--noise-cov", str(files["cov"]), "--out", "out"]
    # Chains of the default model tell nothing of processes; other tests run them in this one.
    words += ["--model", "hierarchical"]
    shown = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert shown.returncode == 0, shown.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "left ear" in page
    assert 'src="http' not in page
    assert "Traceback" not in shown.stderr
    assert "wrote out/report.html" in shown.stdout


SAYING = """
import signal
import nutpie
from bayesinv.cli import main

def sample(*given, started=nutpie.sample, **options):
    running = started(*given, **options)
    print("sampling", flush=True)
    return running

nutpie.sample = sample
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""
"""The program, which says when its chains run, and hears an interrupt where the tests run in the background, too."""


@pytest.mark.slow
def test_ctrl_c_in_a_process_of_its_own(files, tmp_path):
    words = [sys.executable, "-c", SAYING, "fit", str(files["one"])]
    words += ["--forward", str(files["fwd"]), "--noise-cov", str(files["cov"]), "--out", "out", "--method", "nuts"]
    words += ["--draws", "2000000", "--model", "hierarchical"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        assert "sampling\n" in iter(running.stdout.readline, "")
        # Into sampling, which would take minutes.
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        try:
            _, err = running.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            running.kill()
            raise
    assert running.returncode == 130
    assert err.splitlines()[-1] == "bayesinv: interrupted"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
