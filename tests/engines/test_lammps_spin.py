"""pair_style deepspin against Python: energies, forces, magnetic forces, on one rank and on two."""

from __future__ import annotations

from pathlib import Path

import lammps_run
import numpy as np
import pytest
from checks import assert_close
from reference.tiny_models import jittered
from reference.tiny_outputs import make_spin_model

HBAR = 4.135667403e-3 / (2.0 * np.pi)  # eV ps, from LAMMPS' own constant of Planck


@pytest.fixture(scope="module")
def spin_models(plugin, tmp_path_factory) -> dict[str, Path]:
    from deepmd.freeze import freeze_model

    folder = tmp_path_factory.mktemp("spins")
    for name in ("se_e2_a", "dpa2"):
        freeze_model(make_spin_model(name), folder / f"{name}.pth")
    return {name: folder / f"{name}.pth" for name in ("se_e2_a", "dpa2")}


def a_frame():
    frame = jittered(np.diag([8.4, 9.1, 9.6]), (3, 3, 4), 2, np.random.default_rng(4))
    spins = np.random.default_rng(5).normal(0.0, 0.5, (len(frame.types), 3)) * (frame.types == 0)[:, None]
    return frame, spins


def script(model: str, more: str = "run 0") -> str:
    return f"""
units metal
atom_style spin
atom_modify map array
read_data system.data
pair_style deepspin {model}
pair_coeff * * O H
compute m all property/atom fmx fmy fmz sp spx spy spz
dump d all custom 1 out.dump id x y z fx fy fz c_m[1] c_m[2] c_m[3] c_m[4] c_m[5] c_m[6] c_m[7]
dump_modify d sort id format float %.17g
compute p all pressure NULL virial
thermo_style custom step pe c_p[1] c_p[2] c_p[3] c_p[4] c_p[5] c_p[6]
{more}
print "$(pe:%.17g) $(c_p[1]:%.17g) $(c_p[4]:%.17g) $(vol:%.17g)" file out.numbers
"""


def write_data(path: Path) -> None:
    frame, spins = a_frame()
    lengths = np.linalg.norm(spins, axis=1)
    unit = spins / np.maximum(lengths, 1e-12)[:, None]
    unit[lengths == 0] = [0.0, 0.0, 1.0]
    lines = ["made for a test", "", f"{len(frame.types)} atoms", "2 atom types"]
    lines += [f"0 {length} {axis}lo {axis}hi" for axis, length in zip("xyz", np.diag(frame.cell), strict=True)]
    lines += ["", "Masses", "", "1 15.999", "2 1.008", "", "Atoms # spin", ""]
    rows = enumerate(zip(frame.types, frame.positions, unit, lengths, strict=True))
    for k, (t, r, u, length) in rows:
        numbers = " ".join(f"{value:.17g}" for value in [*r, *u, length])
        lines.append(f"{k + 1} {t + 1} {numbers}")
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("name", "ranks"), [("se_e2_a", 1), ("se_e2_a", 2), ("dpa2", 1)])
def test_lammps_gives_the_numbers_of_python(name, ranks, spin_models, tmp_path):
    from deepmd.infer import DeepSpin

    write_data(tmp_path / "system.data")
    outcome = lammps_run.run_lammps(script(spin_models[name]), tmp_path, ranks)
    assert outcome.status == 0, outcome.output[-3000:]
    lines = (tmp_path / "out.dump").read_text().splitlines()
    start = max(k for k, line in enumerate(lines) if line.startswith("ITEM: ATOMS"))
    table = np.array([line.split() for line in lines[start + 1 :]], dtype=float)
    frame, spins = a_frame()
    lengths = table[:, 10:11]
    read_spins = table[:, 11:14] * lengths
    assert_close(read_spins[frame.types == 0], spins[frame.types == 0], "doors")
    energy, force, virial, force_mag, _ = DeepSpin(spin_models[name]).eval(
        frame.positions[None], frame.cell[None], frame.types, spin=spins[None]
    )
    numbers = np.loadtxt(tmp_path / "out.numbers")
    assert_close(numbers[0], energy[0, 0], "doors", scale=max(1.0, abs(energy[0, 0])))
    assert_close(table[:, 4:7], force[0], "LAMMPS force")
    assert np.abs(force_mag).max() > 1e-3
    found = table[:, 7:10] * HBAR / np.maximum(lengths, 1e-12)
    carrying = frame.types == 0
    np.testing.assert_allclose(found[carrying], force_mag[0][carrying], rtol=1e-6, atol=1e-9)
    virial = virial.reshape(3, 3)
    expected = np.array([virial[0, 0], 0.5 * (virial[0, 1] + virial[1, 0])])
    pressure = numbers[1:3] * numbers[3] / lammps_run.UNITS["metal"]["nktv2p"]
    assert_close(pressure, expected, "LAMMPS virial", scale=max(1.0, np.abs(virial).max()))


def test_the_minimiser_of_spins_lowers_the_energy(spin_models, tmp_path):
    write_data(tmp_path / "system.data")
    ends = []
    for steps in (0, 20):
        text = script(spin_models["se_e2_a"], f"min_style spin/cg\nminimize 0 0 {steps} {steps + 1}")
        outcome = lammps_run.run_lammps(text, tmp_path)
        assert outcome.status == 0, outcome.output[-3000:]
        ends.append(np.loadtxt(tmp_path / "out.numbers")[0])
    assert ends[1] < ends[0] - 1e-5


def test_what_does_not_fit_is_refused(spin_models, models, tmp_path):
    write_data(tmp_path / "system.data")
    cases = [
        (script(models["plain"]), 1, "predicts 'energy', expected 'spin'; use pair_style deepmd"),
        (script(spin_models["se_e2_a"]).replace("deepspin", "deepmd"), 1, "expected 'energy'; use pair_style deepspin"),
        (script(spin_models["dpa2"]), 2, "which with spins runs on one rank only"),
        (script(f"{spin_models['se_e2_a']} {spin_models['se_e2_a']}"), 1, "name one model"),
        (script(spin_models["se_e2_a"], "fix 1 all nve/spin lattice moving\nrun 0"), 1, "'min_style spin' for spins"),
        (script(spin_models["se_e2_a"], "set type 1 spin/atom 9.0 0 0 1\nrun 0"), 1, "which the model was made for"),
    ]
    for text, ranks, words in cases:
        outcome = lammps_run.run_lammps(text, tmp_path, ranks)
        assert outcome.status != 0 and words in outcome.output, outcome.output[-1500:]
