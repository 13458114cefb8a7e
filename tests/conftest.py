"""Fixtures that several tests share."""

from __future__ import annotations

import os
from pathlib import Path

# Many small matrices, and test processes side by side: threads of the linear algebra and of compiled loops would only
# wait for each other, and those of OpenMP spin while they do. tests/forward/test_loops.py asks for two.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")
# MNE-Python's loops over so few sensors and triangles take less time as they stand than Numba takes to compile them.
os.environ.setdefault("MNE_USE_NUMBA", "false")
# PyTensor otherwise notes for every node of a graph from where it was made.
os.environ["PYTENSOR_FLAGS"] = ",".join(filter(None, (os.environ.get("PYTENSOR_FLAGS"), "traceback__limit=0")))

import gc  # noqa: E402

gc.disable()  # until what loads has loaded

import numpy as np  # noqa: E402  (reads the number of threads when it loads)
import pytest  # noqa: E402


def pytest_collection_finish():
    """What the libraries made when they loaded stays: looking through it for garbage would cost a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(400_000)
    gc.enable()


@pytest.fixture(scope="session")
def sample() -> Path:
    """Folder of the real recording; tests that want it skip where it is absent."""
    folder = os.environ.get("BAYESINV_DATA", "")
    if not folder or not (Path(folder) / "sample-right-ave.fif").is_file():
        pytest.skip(f"the real recording is not at {folder or 'hand'}; set BAYESINV_DATA to its folder")
    return Path(folder)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)
