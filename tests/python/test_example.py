"""The water example: its data, its starting cells, its scripts and the functions that analyse its trajectories."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from deepmd import config

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "lmp"
SYSTEMS = sorted(path.parent for path in (EXAMPLE / "data").rglob("type.raw"))
FIELDS = ("coord", "box", "energy", "force", "virial")


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the example, found as a user's Python finds it: beside the script that is run."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module(name)


def arrays_of(system: Path) -> dict[str, np.ndarray]:
    return {field: np.load(system / "set.000" / f"{field}.npy") for field in FIELDS}


def test_data_hold_training_and_validation_systems_and_stay_small() -> None:
    assert {path.parent.name for path in SYSTEMS} == {"train", "valid"}
    assert sum(path.stat().st_size for path in (EXAMPLE / "data").rglob("*") if path.is_file()) <= 3_000_000
    frames = {
        kind: sum(len(arrays_of(s)["energy"]) for s in SYSTEMS if s.parent.name == kind) for kind in ("train", "valid")
    }
    assert frames["train"] >= 180 and frames["valid"] >= 30


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_frames_are_whole_water_molecules_with_consistent_labels(system: Path) -> None:
    arrays = arrays_of(system)
    types = np.loadtxt(system / "type.raw", dtype=int)
    assert (system / "type_map.raw").read_text().split() == ["O", "H"]
    assert types.reshape(-1, 3).tolist() == [[0, 1, 1]] * (len(types) // 3)
    n_frames, n_atoms = len(arrays["energy"]), len(types)
    for field, width in (("coord", 3 * n_atoms), ("force", 3 * n_atoms), ("box", 9), ("virial", 9)):
        assert arrays[field].shape == (n_frames, width) and np.isfinite(arrays[field]).all()
    assert arrays["energy"].dtype == np.float64 and np.isfinite(arrays["energy"]).all()
    molecules = arrays["coord"].reshape(n_frames, -1, 3, 3)
    bonds = np.linalg.norm(molecules[:, :, 1:] - molecules[:, :, :1], axis=-1)
    assert 0.7 < bonds.min() and bonds.max() < 1.5
    assert np.abs(arrays["force"].reshape(n_frames, n_atoms, 3).sum(axis=1)).max() < 1e-4
    virial = arrays["virial"].reshape(n_frames, 3, 3)
    assert np.abs(virial - virial.transpose(0, 2, 1)).max() < 1e-6
    assert (np.linalg.det(arrays["box"].reshape(n_frames, 3, 3)) > 0).all()


def test_a_stored_frame_has_the_labels_that_the_method_gives() -> None:
    tblite = pytest.importorskip("tblite.ase", reason="tblite is not installed")
    ase = pytest.importorskip("ase")
    system = EXAMPLE / "data" / "valid" / "hard_27"
    arrays = arrays_of(system)
    positions, cell = arrays["coord"][0].reshape(-1, 3), arrays["box"][0].reshape(3, 3)
    atoms = ase.Atoms("OHH" * (len(positions) // 3), positions, cell=cell, pbc=True)
    atoms.calc = tblite.TBLite(method="GFN1-xTB", accuracy=0.1, verbosity=0)
    assert atoms.get_potential_energy() == pytest.approx(arrays["energy"][0], abs=1e-5)
    assert atoms.get_forces().ravel() == pytest.approx(arrays["force"][0], abs=1e-4)
    virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
    assert virial.ravel() == pytest.approx(arrays["virial"][0], abs=1e-3)


def test_the_plan_of_the_data_does_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("tqdm")
    module = load("make_data", monkeypatch)
    bursts, again = module.plan(), module.plan()
    assert bursts == again and len({burst.name for burst in bursts}) == len(bursts)
    assert len({burst.seed for burst in bursts}) == len(bursts)
    kept: dict[str, int] = {}
    for burst in bursts:
        kept[module.FOLDERS[burst.system]] = kept.get(module.FOLDERS[burst.system], 0) + len(burst.keep)
    explore = load("explore", monkeypatch)
    kept.update({name: number * len(explore.KEPT) for name, number in explore.RUNS.items()})
    stored = {f"{s.parent.name}/{s.name}": len(arrays_of(s)["energy"]) for s in SYSTEMS}
    assert kept == stored


def test_starting_cells_agree() -> None:
    names, positions = [], []
    for line in (EXAMPLE / "water.xyz").read_text().splitlines()[2:]:
        name, *numbers = line.split()
        names.append({"O": "1", "H": "2"}[name])
        positions.append([float(number) for number in numbers])
    body = (EXAMPLE / "water.data").read_text().split("Atoms # atomic")[1].split("\n")
    rows = [line.split() for line in body if line.strip()]
    assert [row[1] for row in rows] == names
    assert np.abs(np.array([row[2:5] for row in rows], dtype=float) - positions).max() < 1e-7


def test_the_input_passes_the_schema() -> None:
    raw = config.load_input(EXAMPLE / "input.json")
    current, changes = config.upgrade(raw)
    assert list(changes) == []
    assert config.normalise(current)["model"]["type_map"] == ["O", "H"]


def test_the_client_and_the_server_name_the_same_socket_and_files() -> None:
    client = json.loads((EXAMPLE / "water.json").read_text())
    server = (EXAMPLE / "input.xml").read_text()
    assert f"<address>{client['host']}</address>" in server and client["coord_file"] in server


def write_dump(path: Path, frames: np.ndarray, length: float) -> None:
    with path.open("w") as file:
        for step, positions in enumerate(frames):
            file.write(
                f"ITEM: TIMESTEP\n{10 * step}\nITEM: NUMBER OF ATOMS\n{len(positions)}\nITEM: BOX BOUNDS pp pp pp\n"
            )
            file.write(f"0 {length}\n" * 3 + "ITEM: ATOMS id type xu yu zu\n")
            file.writelines(f"{k + 1} {1 + k % 2} {x:.9f} {y:.9f} {z:.9f}\n" for k, (x, y, z) in enumerate(positions))


def test_dumps_are_read_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trajectory = load("trajectory", monkeypatch)
    frames = np.random.default_rng(1).uniform(0, 8, (3, 10, 3))
    write_dump(tmp_path / "one.dump", frames, 8.0)
    write_dump(tmp_path / "other.dump", frames + 8.0 + 2e-4 * (np.arange(3) == 1)[:, None, None], 8.0)
    one, other = (trajectory.read_dump(tmp_path / f"{name}.dump") for name in ("one", "other"))
    assert one.steps.tolist() == [0, 10, 20] and one.after(10).positions.shape == (2, 10, 3)
    assert trajectory.largest_difference(one, one) == 0.0
    assert trajectory.largest_difference(one, other) == pytest.approx(2e-4, abs=1e-8)
    command = [sys.executable, str(EXAMPLE / "trajectory.py"), "one.dump", "other.dump"]
    assert subprocess.run([*command, "1e-3"], cwd=tmp_path, capture_output=True).returncode == 0
    assert subprocess.run([*command, "1e-6"], cwd=tmp_path, capture_output=True).returncode == 1


def test_radial_distribution_of_an_ideal_gas_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    trajectory = load("trajectory", monkeypatch)
    positions = np.random.default_rng(2).uniform(0, 10, (40, 200, 3))
    run = trajectory.Trajectory(np.arange(40), positions, np.array(["O", "H"] * 100), 10.0)
    for pair in (("O", "O"), ("O", "H")):
        distances, values = trajectory.radial_distribution(run, pair, n_bins=10)
        assert distances[-1] < 5.0 and values[3:] == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("script", ["examples/lmp/run.sh", "tests/run.sh", ".ci/run"])
def test_scripts_parse_and_can_be_executed(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)
    assert "set -euo pipefail" in (ROOT / script).read_text()
