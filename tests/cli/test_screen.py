"""The short table of a result: what comes first, and in which units."""

from dataclasses import replace

import numpy as np
import pytest
from referee import toy
from test_focal import posterior as focal_posterior

import bayesinv as bi
from bayesinv.cli.screen import Stages, show_posterior
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.maps import both


def shown(posterior, capsys):
    show_posterior(posterior, both(posterior, draws=20), Stages(), "A title")
    # Lines may be folded; what is asked for is in the first column, or before a fold.
    return capsys.readouterr().out


def test_sources_come_first_and_scales_have_units(capsys):
    found = focal_posterior(toy(samples=7, sources=8))
    values = {
        "lambda": 3e18 * np.ones(4),
        "snr": np.array([0.1, 0.2, 0.4, 0.3]),
        "scale": 2e-9 * np.ones(4),
        "constant": 0.035 * np.ones(4),
        "head 1": np.ones(4),
    }
    text = shown(replace(found, hyper=Hyper(values, found.mixture.weights, values)), capsys)
    order = ["number of focal sources", "focal source 1", "λ of dense currents", "source scale of dense currents"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    rows = {
        line[: len(name)]: line[len(name) :].strip()
        for line in text.splitlines()
        for name in UNITS
        if line.startswith(name)
    }
    assert rows == UNITS
    assert "head 1" not in text
    assert "peak at" not in text


UNITS = {"λ of dense currents, 1/(nA·m)²": "3", "source scale of dense currents, nA·m": "2", "time constant, ms": "35"}


def test_without_focal_sources_scales_and_peaks_come(capsys):
    posterior = bi.infer("hierarchical", toy(samples=7, sources=8))
    text = shown(posterior, capsys)
    assert text.index("SNR (amplitude)  ") < text.index("peak at")
    assert "of dense currents" not in text
    median = 1e9 * float(posterior.hyper["scale"].quantile(0.5))
    row = next(line for line in text.splitlines() if line.startswith("source scale, nA·m"))
    assert float(row.removeprefix("source scale, nA·m").split()[0]) == pytest.approx(median, rel=6e-3)
