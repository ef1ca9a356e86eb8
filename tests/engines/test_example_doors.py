"""Every example input, as a tiny model, through the engines: LAMMPS, i-PI and C++ say what Python says of a frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import doors
import numpy as np
import pytest
import torch
from checks import assert_close
from doors import DOORS, Case
from lammps_run import six
from reference.tiny_models import Options, make_frames

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples"
INPUTS = sorted(path for kind in ("descriptors", "fittings", "models") for path in (FOLDER / kind).glob("*.json"))
ENERGIES = ("LAMMPS, 1 rank", "LAMMPS, 2 ranks", "dp_ipi", "C++")
ELSEWHERE = {
    **dict.fromkeys(("dipole", "polar"), "test_lammps_tensors.py"),  # compute deeptensor/atom
    **dict.fromkeys(("dos", "property"), "test_output_doors.py"),  # C++
    "spin": "test_lammps_spin.py", "pairwise_dprc": "test_fragments.py", "dipole_charge": "test_lammps_longrange.py",
    "se_a_mask": "../python/test_mask.py",
}  # fmt: skip
"""Examples whose doors are tried in tests of their own."""
NAMES = [path.stem for path in INPUTS if path.stem not in ELSEWHERE]
RCUT = 4.0


def shrunk(value: Any) -> Any:
    """A section with small networks and cutoffs; everything that makes the kind stays."""
    if isinstance(value, list):
        return [shrunk(one) for one in value]
    if not isinstance(value, dict):
        return value
    small = {key: shrunk(one) for key, one in value.items()}
    for key, one in small.items():
        if key == "neuron" or key.endswith("_neuron") and isinstance(one, list):
            small[key] = [4, 8, 8][: len(one)]
        elif key.endswith("sel") and one == "auto":
            by_type = key == "sel" and small.get("type") in ("se_e2_a", "se_e2_r", "se_e3", "se_a_tpe")
            small[key] = [20, 30] if by_type else 50
        elif key == "rcut" or key.endswith("_rcut"):
            small[key] = min(one, RCUT)
        elif key == "rcut_smth" or key.endswith("_rcut_smth"):
            small[key] = min(one, RCUT - 1.0)
        elif key in ("nlayers", "axis_neuron"):
            small[key] = min(one, 2)
        elif key == "tab_file" or key == "use_srtab":
            small[key] = str(FOLDER / "models" / one)
    return small


def make_model(path: Path) -> torch.nn.Module:
    """Random weights, with rows and biases that are far from trivial."""
    from deepmd.config import normalise
    from deepmd.nn.model import build

    whole = json.loads(path.read_text())
    model = whole["model"]
    if "model_dict" in model:  # a task of it, with its shared parts in their places
        shared, task = model["shared_dict"], model["model_dict"]["energies"]
        model = {key: shared.get(value, value) if isinstance(value, str) else value for key, value in task.items()}
        whole = {**whole, "loss": {}, "training": {"training_data": {"systems": "x"}, "numb_steps": 1}}
        del whole["loss_dict"]
    built = build(normalise({**whole, "model": shrunk(model)})["model"]).eval()
    rng = np.random.default_rng(7)
    with torch.no_grad():
        for descriptor in built.descriptors():
            for environment in getattr(descriptor, "environments", list)():
                widths = rng.uniform(0.2, 0.5, (2, 2))[:, [0, 1, 1, 1][: environment.row_width]]
                environment.dstd.copy_(torch.from_numpy(widths.copy()))
        built.out_bias.copy_(torch.tensor([-3.0, 1.5], dtype=torch.float64))
    return built


@pytest.fixture(scope="module")
def cases(compiled, tmp_path_factory):
    """A frozen model for each example, and what Python says of a frame."""
    from deepmd.freeze import freeze_model
    from deepmd.infer import DeepPot

    frame, found = make_frames()["skewed"], {}
    for path in INPUTS:
        if path.stem in ELSEWHERE:
            continue
        file = tmp_path_factory.mktemp("example") / "graph.pth"
        freeze_model(make_model(path), file)
        energy, forces, virial = (value[0] for value in DeepPot(file).eval(frame.positions, frame.cell, frame.types))
        expected = {"energy": energy, "forces": forces, "virial": virial, "virial_six": six(virial.reshape(3, 3))}
        assert np.abs(forces).max() > 1e-5
        found[path.stem] = Case(Options(rcut=RCUT), {}, file, {"skewed": frame}), expected
    return found


def compare(results: dict, expected: dict) -> None:
    for key in sorted(set(results) & set(expected)):
        scale = max(1.0, float(np.abs(expected[key]).max()))
        assert_close(np.ravel(results[key]), np.ravel(expected[key]), "doors", scale)


@pytest.mark.parametrize("ranks", [1, 2])
def test_lammps_gives_the_numbers_of_python(ranks, plugin, cases, tmp_path):
    jobs = [doors.lammps_job(name, case.frames["skewed"], case) for name, (case, _) in cases.items()]
    found = doors.run_jobs(jobs, tmp_path, ranks)
    for name, (_, expected) in cases.items():
        one = found[name]
        compare({"energy": one.energy, "forces": one.forces, "virial_six": one.virial}, expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("door", ["dp_ipi", "C++"])
def test_a_door_gives_the_numbers_of_python(door, name, cases, tmp_path):
    case, expected = cases[name]
    compare(DOORS[door](case, tmp_path)["skewed"], expected)


def test_every_example_has_its_doors_tried():
    known = {path.stem for path in INPUTS}
    assert set(ELSEWHERE) <= known and set(NAMES) | set(ELSEWHERE) == known
    for file in ELSEWHERE.values():
        assert (Path(__file__).parent / file).is_file()
