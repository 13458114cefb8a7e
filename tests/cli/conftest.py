"""A small recording as files, and `bayesinv fit` of it."""

from __future__ import annotations

import warnings
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from refusal import NAMES

import bayesinv as bi
from bayesinv import cli


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, Path]:
    """A small EEG average with two conditions, its forward solution on a sphere, and its covariance."""
    import mne

    folder = tmp_path_factory.mktemp("fif")
    rng = np.random.default_rng(4)
    with mne.use_log_level("ERROR"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        info = mne.create_info(NAMES, 100.0, "eeg")
        info.set_montage("standard_1020")
        directions = rng.standard_normal((9, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        space = mne.setup_volume_source_space(pos={"rr": 0.06 * directions + [0, 0, 0.04], "nn": directions})
        sphere = mne.make_sphere_model((0.0, 0.0, 0.04), 0.09)
        forward = mne.make_forward_solution(info, None, space, sphere, meg=False)
        gain = forward["sol"]["data"]
        times = np.arange(-20, 31) / 100
        time_course = np.exp(-0.5 * ((times - 0.1) / 0.03) ** 2)
        averages = []
        for number, name in enumerate(("left ear", "right ear")):
            current = np.zeros((gain.shape[1], len(times)))
            current[3 * number : 3 * number + 3] = 2e-8 * directions[number][:, None] * time_course
            field = gain @ current + 1e-6 * rng.standard_normal((len(NAMES), len(times)))
            average = mne.EvokedArray(field, info, tmin=-0.2, comment=name, nave=1)
            average.set_eeg_reference("average", projection=True)
            averages.append(average)
        covariance = mne.Covariance(1e-12 * np.eye(len(NAMES)), NAMES, [], averages[0].info["projs"], 100)
        paths = {name: folder / f"small-{name}.fif" for name in ("ave", "fwd", "cov")}
        mne.write_evokeds(paths["ave"], averages)
        mne.write_forward_solution(paths["fwd"], forward)
        mne.write_cov(paths["cov"], covariance)
        mne.write_evokeds(folder / "one-ave.fif", averages[0])
    return {**paths, "one": folder / "one-ave.fif"}


def without_pictures(monkeypatch):
    """Spares the pictures: what the report draws is its own tests' affair."""

    def write(posterior, out, **marked):
        (out / "report.html").write_text(f"{marked.get('title')} {sorted(marked)}")
        (out / "maps.png").write_bytes(b"picture")

    monkeypatch.setattr("bayesinv.report.write", write)


def words_of(files, out, *options, recording=None, forward=None, noise_cov=None, condition="left ear"):
    """The words of `bayesinv fit`."""
    tokens = ["fit", str(recording or files["ave"]), "--forward", str(forward or files["fwd"])]
    tokens += ["--noise-cov", str(noise_cov or files["cov"]), "--out", str(out)]
    tokens += [] if condition is None else ["--condition", condition]
    return [*tokens, *map(str, options)]


@pytest.fixture
def plain(monkeypatch):
    without_pictures(monkeypatch)


@pytest.fixture
def fit(files, tmp_path, plain, capfd):
    """Runs `bayesinv fit` in a folder of its own; returns exit code, output and error stream."""

    def call(*options, out=None, **given):
        code = cli.run(words_of(files, out or tmp_path / "out", *options, **given))
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return call


@pytest.fixture
def fit_exactly(fit):
    """Runs `bayesinv fit` of the model that has nothing to integrate: for what no model has a part in."""

    def call(*options, **given):
        return fit("--model", "minimum_norm", *options, **given)

    return call


class Inference(NamedTuple):
    """What was asked of `bi.infer`, the state of its random numbers before, and the posterior that it gave."""

    model: str
    problem: bi.Problem
    args: tuple
    state: dict
    options: dict
    posterior: bi.Posterior


@pytest.fixture(scope="session")
def whole(files, tmp_path_factory):
    """A fit of the model that is chosen by default: its folder's parent, exit code, output, error stream, inferences.

    Its chains are as long as a user's, so what it asked of the library is noted: asking again would cost as much.
    """
    inferred, inferences = bi.infer, []

    def infer(model, problem, *args, rng, **options):
        before = rng.bit_generator.state
        found = inferred(model, problem, *args, rng=rng, **options)
        inferences.append(Inference(model, problem, args, before, options, found))
        return found

    folder = tmp_path_factory.mktemp("whole")
    window = ("--tmin", 0.05, "--tmax", 0.2, "--baseline", "-0.2,0")
    words = words_of(files, folder / "out", "--seed", 3, "--draws", 500, "--predictive", *window)
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch, redirect_stdout(out), redirect_stderr(err):
        without_pictures(monkeypatch)
        monkeypatch.setattr("bayesinv.infer", infer)
        code = cli.run(words)
    return folder, code, out.getvalue(), err.getvalue(), inferences
