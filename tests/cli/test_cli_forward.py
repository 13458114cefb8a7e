"""`bayesinv forward` writes what the solvers give, in two forms."""

from __future__ import annotations

import numpy as np
import pytest
from refusal import NAMES

from bayesinv import cli
from bayesinv.bridges.archive_load import load


class TestForward:
    @pytest.fixture
    def forward(self, tmp_path, capfd):
        """Runs `bayesinv forward`; returns exit code, output and error stream."""

        def call(*options, out="out.nc"):
            code = cli.run(["forward", "--out", str(tmp_path / out), *map(str, options)])
            shown = capfd.readouterr()
            return code, shown.out, shown.err

        return call

    SMALL = ("--head", "spheres", "--sensors", "32", "--sources", "30")

    def test_it_writes_what_the_solver_gives(self, forward, tmp_path):
        from bayesinv.cli import scene

        code, out, err = forward(*self.SMALL, "--conductivities", "0.3,0.02,0.4", "--reference", "average")
        assert code == 0, err
        found = load(tmp_path / "out.nc")
        made, method = scene.set_scene("spheres", sensors="32", sources="30", conductivities=[0.3, 0.02, 0.4])
        np.testing.assert_array_equal(found.gain, scene.solve(made, method).rereference("average").gain)
        assert found.reference == "average"
        for word in ("series to degree", "closest source", "skull 0.02 S/m", "wrote"):
            assert word in out
        assert {"potential", "conductivities", "closest source"} <= set(found.notes)
        assert [path.name for path in tmp_path.iterdir()] == ["out.nc"]

    def test_mne_python_reads_the_other_form(self, forward, files, tmp_path):
        import mne

        assert forward("--head", "spheres", "--sensors", files["ave"], "--sources", "30", out="my-fwd.fif")[0] == 0
        assert forward("--head", "spheres", "--sensors", files["ave"], "--sources", "30")[0] == 0
        theirs = mne.read_forward_solution(tmp_path / "my-fwd.fif", verbose="error")
        ours = load(tmp_path / "out.nc")
        assert theirs["sol"]["row_names"] == NAMES
        np.testing.assert_allclose(theirs["sol"]["data"], ours.gain.reshape(len(NAMES), -1), rtol=1e-6)
        # Without channels from a file, electrodes have their own.
        assert forward(*self.SMALL, out="free-fwd.fif")[0] == 0
        assert len(mne.read_forward_solution(tmp_path / "free-fwd.fif", verbose="error")["info"]["chs"]) == 32

    def test_what_it_wrote_fits(self, forward, files, tmp_path, fit_exactly):
        forward("--head", "spheres", "--sensors", files["ave"], "--sources", "30", out="my-fwd.fif")
        code, _, err = fit_exactly("--orientation", "free", forward=tmp_path / "my-fwd.fif")
        assert code == 0, err

    def test_meg_and_eeg_of_a_real_helmet(self, forward, sample, tmp_path):
        out = "real-fwd.fif"
        code, shown, err = forward(
            "--head", "spheres", "--sensors", sample / "sample-right-ave.fif", "--sources", "40", out=out
        )
        assert code == 0, err
        assert "magnetic field" in shown
        import mne

        found = mne.read_forward_solution(tmp_path / out, verbose="error")
        assert {"eeg", "grad", "mag"} <= {mne.channel_type(found["info"], i) for i in range(found["nchan"])}

    def test_a_file_that_is_there_stays(self, forward, tmp_path):
        (tmp_path / "out.nc").write_text("mine")
        code, _, err = forward(*self.SMALL)
        assert code == 2
        assert "is there already" in err
        assert (tmp_path / "out.nc").read_text() == "mine"
        assert forward(*self.SMALL, "--overwrite")[0] == 0
        assert len(load(tmp_path / "out.nc").sensors) == 32

    @pytest.mark.parametrize(
        ("options", "out", "words"),
        [
            (["--head", "moon"], "out.nc", "no head named 'moon'"),
            (["--head", "absent.msh", "--conductivities", "1"], "out.nc", "no mesh file absent.msh"),
            (["--head", "spheres", "--radii", "90,80,70"], "out.nc", "must grow"),
            (["--head", "spheres", "--radii", "80,90,100", "--sources", "30"], "out.nc", "metres"),
            (["--head", "spheres", "--radii", "a,b,c"], "out.nc", "--radii a,b,c holds what is no number"),
            (["--head", "spheres", "--method", "bme"], "out.nc", "bme"),
            (["--method", "sphere"], "out.nc", "wants head 'spheres'"),
            (["--head", "subject"], "out.nc", "wants --subject and --subjects-dir"),
            (["--head", "spheres", "--sensors", "helmet"], "out.nc", "no montage named 'helmet'"),
            ([*SMALL, "--reference", "CZ"], "out.nc", "no electrode named 'CZ'"),
            ([*SMALL], "out.mat", "neither a .nc nor a -fwd.fif file"),
            ([*SMALL], "absent/out.nc", "there is no folder"),
        ],
    )
    def test_bad_input_is_one_line_and_2(self, forward, tmp_path, options, out, words):
        code, shown, err = forward(*options, out=out)
        lines = [line for line in err.splitlines() if line.startswith("bayesinv: ")]
        assert (code, len(lines)) == (2, 1), err
        assert words in lines[0]
        assert shown == ""
        assert list(tmp_path.iterdir()) == []
