"""The template's lead field is computed once, survives a broken cache, and agrees with another method."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bayesinv.forward import gain_files, template_lead_field
from bayesinv.forward.leadfield import LeadField
from bayesinv.head import template, template_cortex
from bayesinv.head.sensors import Sensors


@pytest.fixture(scope="module")
def grid():
    return template_cortex.sources("oct4")


@pytest.fixture
def solver(monkeypatch):
    """Counts how often a gain is computed, and spares the time."""
    calls = []

    def solve(head, sensors, sources):
        calls.append(head.conductivities)
        gain = np.arange(len(sensors) * len(sources) * 3.0).reshape(len(sensors), len(sources), 3)
        return LeadField(gain, sensors, sources, notes={"solver": "counting"})

    monkeypatch.setattr("bayesinv.forward.bem.lead_field", solve)
    return calls


class TestCache:
    def test_transfers_are_stored_only_in_a_writeable_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("BAYESINV_CACHE", str(tmp_path / "new"))
        assert gain_files.transfer_folder() == tmp_path / "new" / "fem"
        assert (tmp_path / "new" / "fem").is_dir()
        (tmp_path / "file").write_text("x")
        monkeypatch.setenv("BAYESINV_CACHE", str(tmp_path / "file"))
        assert gain_files.transfer_folder() is None

    @pytest.fixture
    def arguments(self, grid):
        return grid.pick(np.arange(0, len(grid), 40)), template_cortex.electrodes(32)

    def test_second_time_is_read(self, arguments, solver, tmp_path):
        first = template_lead_field.lead_field(*arguments, cache=tmp_path)
        again = template_lead_field.lead_field(*arguments, cache=tmp_path)
        assert len(solver) == 1
        assert_array_equal(first.gain, again.gain)
        assert again.notes == first.notes
        assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]

    def test_every_input_is_in_the_key(self, arguments, solver, tmp_path, monkeypatch):
        sources, sensors = arguments
        template_lead_field.lead_field(sources, sensors, cache=tmp_path)
        template_lead_field.lead_field(sources, sensors, (0.33, 0.02, 0.33), cache=tmp_path)
        template_lead_field.lead_field(sources, sensors, skull_fraction=0.5, cache=tmp_path)
        template_lead_field.lead_field(sources, sensors, subdivisions=2, cache=tmp_path)
        template_lead_field.lead_field(sources.pick(np.arange(3)), sensors, cache=tmp_path)
        moved = Sensors(sensors.names, sensors.kinds, sensors.positions + 1e-6)
        template_lead_field.lead_field(sources, moved, cache=tmp_path)
        monkeypatch.setattr("bayesinv.__version__", "another")
        template_lead_field.lead_field(sources, sensors, cache=tmp_path)
        assert len(solver) == 7

    @pytest.mark.parametrize("damage", ["truncated", "empty", "text", "nan", "shape"])
    def test_broken_file_is_made_anew(self, arguments, solver, tmp_path, damage):
        first = template_lead_field.lead_field(*arguments, cache=tmp_path)
        (store,) = tmp_path.iterdir()
        content = store.read_bytes()
        if damage == "nan":
            np.savez(store, gain=np.full(first.gain.shape, np.nan), notes=np.array([["a", "b"]]))
        elif damage == "shape":
            np.savez(store, gain=first.gain[:2], notes=np.array([["a", "b"]]))
        else:
            store.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"no zip"}[damage])
        assert_array_equal(template_lead_field.lead_field(*arguments, cache=tmp_path).gain, first.gain)
        assert_array_equal(template_lead_field.lead_field(*arguments, cache=tmp_path).gain, first.gain)
        assert len(solver) == 2

    def test_folder_that_cannot_be_written_costs_the_cache_only(self, arguments, solver, tmp_path):
        (tmp_path / "file").write_text("in the way")
        made = template_lead_field.lead_field(*arguments, cache=tmp_path / "file" / "cache")
        assert made.gain.shape == (32, len(arguments[0]), 3)

    def test_interruption_leaves_nothing(self, arguments, solver, tmp_path, monkeypatch):
        def interrupted(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(np, "savez", interrupted)
        with pytest.raises(KeyboardInterrupt):
            template_lead_field.lead_field(*arguments, cache=tmp_path)
        assert not list(tmp_path.iterdir())

    def test_folder_is_named_by_the_environment(self, monkeypatch, tmp_path):
        monkeypatch.setenv("BAYESINV_CACHE", str(tmp_path))
        assert gain_files.cache_folder() == tmp_path
        monkeypatch.delenv("BAYESINV_CACHE")
        assert "bayesinv" in str(gain_files.cache_folder())


@pytest.mark.slow
def test_gain_agrees_with_mne_collocation(grid, tmp_path):
    """Two boundary element methods on the same coarse meshes; the collocation's own error is about 0.04."""
    import mne

    sources, sensors = grid.pick(np.arange(0, len(grid), 4)), template_cortex.electrodes(32)
    gain = template_lead_field.lead_field(sources, sensors, cache=tmp_path).rereference("average").gain
    to_mri = sources.to_mri
    folder = tmp_path / "head" / "bem"
    folder.mkdir(parents=True)
    for name, surface in zip(("inner_skull", "outer_skull", "outer_skin"), template.surfaces(), strict=True):
        places = 1e3 * (surface.vertices @ to_mri[:3, :3].T + to_mri[:3, 3])
        mne.write_surface(folder / f"{name}.surf", places, surface.triangles)
    with mne.use_log_level("ERROR"):
        model = mne.make_bem_model("head", None, template.CONDUCTIVITIES, subjects_dir=tmp_path)
        space = mne.setup_volume_source_space(pos={"rr": sources.mri_positions, "nn": sources.normals})
        info = mne.create_info(list(sensors.names), 100.0, "eeg")
        places = dict(zip(sensors.names, sensors.positions, strict=True))
        info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
        transform = mne.transforms.Transform("mri", "head", np.linalg.inv(to_mri))
        solution = mne.make_bem_solution(model)
        theirs = mne.make_forward_solution(info, transform, space, solution, meg=False, mindist=0.0)
    other = theirs["sol"]["data"].reshape(gain.shape)
    other = other - other.mean(axis=0)
    norm, other_norm = np.linalg.norm(gain, axis=0), np.linalg.norm(other, axis=0)
    assert np.median(np.linalg.norm(gain / norm - other / other_norm, axis=0)) < 0.06
    assert 0.9 < np.median(norm / other_norm) < 1.15
