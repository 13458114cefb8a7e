"""What a small recording measures, and what a refusal looks like."""

from __future__ import annotations

NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Fz", "Cz"]


def refused(result, tmp_path, *words):
    """One line on the error stream, code 2, and nothing on disk."""
    code, out, err = result
    lines = [line for line in err.splitlines() if line.startswith("bayesinv: ")]
    assert code == 2, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert out == ""
    for word in words:
        assert word in lines[0], lines[0]
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "out"))]
    assert left == []
