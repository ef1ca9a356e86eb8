"""Long range in LAMMPS: kspace beside pair_style deepmd, and fix dplr with charges at the ends of dipoles."""

from __future__ import annotations

from pathlib import Path

import lammps_run
import numpy as np
import pytest
from checks import assert_close
from reference.tiny_models import jittered
from reference.tiny_outputs import make_output_model

STEP = 1e-3  # Angstrom, of differences


@pytest.fixture(scope="module")
def dipole(plugin, tmp_path_factory) -> Path:
    from deepmd.freeze import freeze_model

    path = tmp_path_factory.mktemp("dipole") / "dipole.pth"
    freeze_model(make_output_model("dipole"), path)
    return path


def write_water_like(path: Path, of_types: dict[int, float] | None = None) -> np.ndarray:
    """24 atoms with charges; each atom of type 1 has a site of type 3 bonded to it. Returns the types with sites.

    of_types: charges by type of LAMMPS, else they differ from atom to atom.
    """
    frame = jittered(np.diag([8.4, 8.7, 9.3]), (3, 2, 4), 2, np.random.default_rng(11))
    oxygens = np.flatnonzero(frame.types == 0)
    charges = np.where(frame.types == 0, 2.0, 0.3 * (-1.0) ** np.arange(len(frame.types)))
    charges[frame.types == 1] -= charges[frame.types == 1].mean()
    positions = np.concatenate([frame.positions, frame.positions[oxygens] + 0.05])
    types = np.concatenate([frame.types + 1, np.full(len(oxygens), 3)])
    charges = np.concatenate([charges, np.full(len(oxygens), -2.0)])
    if of_types is not None:
        charges = np.array([of_types[t] for t in types])
    n = len(frame.types)
    lines = ["made for a test", "", f"{len(types)} atoms", "3 atom types", f"{len(oxygens)} bonds", "1 bond types"]
    lines += [f"0 {length} {axis}lo {axis}hi" for axis, length in zip("xyz", np.diag(frame.cell), strict=True)]
    lines += ["", "Masses", "", "1 15.999", "2 1.008", "3 39.948", "", "Atoms # full", ""]
    atoms = zip(types, charges, positions, strict=True)
    lines += ["{} 1 {} {:.17g} {:.17g} {:.17g} {:.17g}".format(k + 1, t, q, *r) for k, (t, q, r) in enumerate(atoms)]
    lines += ["", "Bonds", ""]
    order = [(o + 1, n + k + 1) if k % 2 else (n + k + 1, o + 1) for k, o in enumerate(oxygens)]
    lines += [f"{k + 1} 1 {a} {b}" for k, (a, b) in enumerate(order)]
    path.write_text("\n".join(lines) + "\n")
    return types


def script(model: Path, kspace: str, fix: str, extra: str = "") -> str:
    return f"""
units metal
atom_style full
atom_modify map array
read_data system.data
bond_style zero
bond_coeff *
special_bonds lj/coul 1 1 1
pair_style deepmd {model}
pair_coeff * * O H NULL
kspace_style {kspace}
kspace_modify gewald 0.7
{fix}
group real type 1 2
compute p all pressure NULL virial
thermo_style custom step pe c_p[1] c_p[2] c_p[3] c_p[4] c_p[5] c_p[6] vol
neigh_modify every 1 delay 0 check yes
dump d all custom 1 out.dump id x y z fx fy fz
dump_modify d sort id format float %.17g
run 0
print "$(pe:%.17g) $(c_p[1]:%.17g) $(c_p[2]:%.17g) $(vol:%.17g)" file out.numbers
undump d
{extra}
"""


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """pe, two pressures and the volume; x, y, z and forces [n, 6] by ID, of the last frame."""
    lines = (folder / "out.dump").read_text().splitlines()
    start = max(k for k, line in enumerate(lines) if line.startswith("ITEM: ATOMS"))
    rows = np.array([line.split() for line in lines[start + 1 :]], dtype=float)
    return np.loadtxt(folder / "out.numbers"), rows[:, 1:]


def run(
    folder: Path, text: str, ranks: int = 1, of_types: dict[int, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    write_water_like(folder / "system.data", of_types)
    outcome = lammps_run.run_lammps(text, folder, ranks)
    (folder / "out.log").write_text(outcome.output)
    assert outcome.status == 0, outcome.output[-3000:]
    return read(folder)


def differences_script(ids: list[int]) -> str:
    """Energies with each coordinate of the atoms shifted up and down, then with the box stretched along x and y."""
    tell = 'run 0\nprint "$(pe:%.17g)" append out.energies'
    lines = []
    for one in ids:
        lines.append(f"group one id {one}")
        for axis in range(3):
            for factor in (1, -2):
                move = " ".join(f"{factor * STEP:.17g}" if a == axis else "0" for a in range(3))
                lines.append(f"displace_atoms one move {move} units box\n{tell}")
            back = " ".join(f"{STEP:.17g}" if a == axis else "0" for a in range(3))
            lines.append(f"displace_atoms one move {back} units box")
        lines.append("group one delete")
    for axis in "xy":
        up, down = 1 + 2e-4, 1 - 2e-4
        lines.append(f"change_box all {axis} scale {up:.17g} remap\n{tell}")
        lines.append(f"change_box all {axis} scale {down / up:.17g} remap\n{tell}")
        lines.append(f"change_box all {axis} scale {1 / down:.17g} remap")
    return "\n".join(lines)


def test_fix_dplr_moves_atoms_by_the_derivatives_of_the_energy(dipole, models, tmp_path):
    """Forces of two atoms and two components of the virial by differences; sites at the ends of their dipoles."""
    fix = f"fix d all dplr model {dipole} type_associate 1 3 bond_type 1"
    types = write_water_like(tmp_path / "system.data")
    ids = [int(np.flatnonzero(types == 1)[1]) + 1, int(np.flatnonzero(types == 2)[2]) + 1]
    text = script(models["plain"], "ewald 1e-12", fix, differences_script(ids))
    numbers, atoms = run(tmp_path, text)
    energies = np.loadtxt(tmp_path / "out.energies").reshape(-1, 2)
    found = energies[:, 1] - energies[:, 0]
    forces = found[:6].reshape(2, 3) / (2 * STEP)
    assert np.abs(forces).max() > 0.1
    np.testing.assert_allclose(atoms[[one - 1 for one in ids], 3:], forces, rtol=0, atol=2e-5)
    virial = numbers[1:3] * numbers[3] / lammps_run.UNITS["metal"]["nktv2p"]
    np.testing.assert_allclose(virial, found[6:] / 4e-4, rtol=0, atol=2e-4)
    sites = types == 3
    assert not atoms[sites, 3:].any() and np.abs(atoms[:, 3:].sum(axis=0)).max() < 1e-8
    from deepmd.infer import DeepDipole

    real = atoms[~sites, :3]
    dipoles = DeepDipole(dipole).eval(real[None], np.diag([8.4, 8.7, 9.3])[None], types[~sites] - 1)[0]
    assert np.abs(dipoles).max() > 1e-2
    owners = np.flatnonzero(types == 1)
    away = atoms[sites, :3] - real[owners] - dipoles[owners]
    cell = np.array([8.4, 8.7, 9.3])
    assert_close(away - np.round(away / cell) * cell, np.zeros_like(away), "doors")


def test_fix_dplr_and_its_kspace_are_the_same_on_two_ranks(dipole, models, tmp_path):
    fix = f"fix d all dplr model {dipole} type_associate 1 3 bond_type 1\nfix n real nve"
    steps = "velocity real create 600 3 loop geom\ntimestep 0.0005\n"
    results = []
    for n in (1, 2):
        folder = tmp_path / str(n)
        folder.mkdir()
        text = script(models["plain"], "pppm/dplr 1e-7", f"group real type 1 2\n{fix}")
        text = text.replace("run 0", f"{steps}run 10")
        results.append(run(folder, text.replace("custom 1 out.dump", "custom 10 out.dump"), n))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-7)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def neutral(tmp_path_factory) -> dict[int, float]:
    """Charges of O, H and the sites that add up to nothing."""
    types = write_water_like(tmp_path_factory.mktemp("types") / "system.data")
    counts = np.bincount(types)
    return {1: 2.0, 2: 0.45, 3: -2.0 - 0.45 * counts[2] / counts[1]}


@pytest.fixture(scope="module")
def modified(dipole, models, neutral, tmp_path_factory) -> Path:
    """The plain model with the modifier dipole_charge: the dipole model travels in the file."""
    from deepmd import model_file
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import deserialize
    from deepmd.nn.modifier import DipoleCharge

    section = {"type": "dipole_charge", "model_charge_map": [neutral[3]], "sys_charge_map": [neutral[1], neutral[2]],
               "ewald_h": 0.35, "ewald_beta": 0.7}  # fmt: skip
    model = deserialize(model_file.read(models["plain"]).tree)
    model.modifier = DipoleCharge(section, ["O", "H"], dipole.read_bytes())
    path = tmp_path_factory.mktemp("modified") / "graph.pth"
    freeze_model(model, path)
    return path


@pytest.mark.parametrize(("kspace", "limit"), [("ewald 1e-12", 1e-10), ("pppm/dplr 1e-8", 1e-6)])
def test_kspace_and_fix_dplr_add_what_the_modifier_adds_in_python(kspace, limit, modified, neutral, tmp_path):
    """One file in both: energy, forces and virial of LAMMPS are those of DeepPot, whose Ewald sum is written otherwise.

    LAMMPS takes the energy of each charge with itself off, and has other digits of the Coulomb constant.
    """
    from deepmd.infer import DeepPot
    from deepmd.nn.ewald import COULOMB

    fix = f"fix d all dplr model {modified} type_associate 1 3 bond_type 1"
    numbers, atoms = run(tmp_path, script(modified, kspace, fix), of_types=neutral)
    types = write_water_like(tmp_path / "again.data", neutral)
    real, cell = types != 3, np.diag([8.4, 8.7, 9.3])
    model = DeepPot(modified)
    inputs = (atoms[real, :3][None], cell[None], types[real] - 1)
    energy, force, virial = (array[0] for array in model.eval(*inputs))
    added = model.core.modifier.evaluate(inputs[0][0], inputs[2], cell)
    assert abs(added["energy"]) > 1.0 and np.abs(added["forces"]).max() > 0.1
    ratio = 14.399645 / COULOMB - 1.0  # of the constants, which the whole long-range part is proportional to
    charges = np.array([neutral[t] for t in types])
    itself = 14.399645 * 0.7 / np.sqrt(np.pi) * (charges**2).sum()
    np.testing.assert_allclose(
        numbers[0] + itself, energy[0] + ratio * added["energy"], rtol=0, atol=10 * limit
    )
    np.testing.assert_allclose(atoms[real, 3:], force + ratio * added["forces"], rtol=0, atol=limit)
    found = numbers[1:3] * numbers[3] / lammps_run.UNITS["metal"]["nktv2p"]
    expected = (virial.reshape(3, 3) + ratio * added["virial"]).diagonal()[:2]
    np.testing.assert_allclose(found, expected, rtol=0, atol=10 * limit)
    assert "dipole_charge is not part of these energies" in (tmp_path / "out.log").read_text()


def test_smeared_charges_of_another_width_are_refused(modified, neutral, tmp_path):
    fix = f"fix d all dplr model {modified} type_associate 1 3 bond_type 1"
    write_water_like(tmp_path / "system.data", neutral)
    text = script(modified, "pppm/dplr 1e-5", fix).replace("gewald 0.7", "gewald 0.4")
    outcome = lammps_run.run_lammps(text, tmp_path)
    assert outcome.status != 0 and "trained with ewald_beta 0.7" in outcome.output, outcome.output[-1500:]


def test_plain_pppm_adds_the_reciprocal_part(models, tmp_path):
    """As the manual writes it: kspace adds its own forces to those of the model, and nothing else changes."""
    results = {}
    for name, style in {"pppm": "pppm 1e-6", "ewald": "ewald 1e-10", "none": "zero 1.0"}.items():
        folder = tmp_path / name
        folder.mkdir()
        text = script(models["plain"], style, "")
        if name == "none":
            text = text.replace(f"kspace_style {style}\nkspace_modify gewald 0.7", "")
        results[name] = run(folder, text)
    assert abs(results["ewald"][0][0] - results["none"][0][0]) > 1.0
    np.testing.assert_allclose(results["pppm"][0][0], results["ewald"][0][0], rtol=0, atol=2e-3)
    np.testing.assert_allclose(results["pppm"][1][:, 3:], results["ewald"][1][:, 3:], rtol=0, atol=2e-3)
    assert np.abs(results["ewald"][1][:, 3:] - results["none"][1][:, 3:]).max() > 0.1


@pytest.mark.parametrize(
    ("fix", "words"),
    [
        ("fix d all dplr model {dipole} type_associate 1 3 bond_type 1 efield 0 0 1", "write 'fix efield'"),
        ("fix d all dplr model {dipole} type_associate 2 3 bond_type 1", "gives them no dipole"),
        ("fix d all dplr model {dipole} bond_type 1", "are needed, but one is missing"),
        ("fix d all dplr model {plain} type_associate 1 3 bond_type 1", "predicts 'energy', expected dipole"),
        ("fix d all dplr model {dipole} type_associate 1 3 bond_type 7", "'bond_type' got '7'"),
    ],
)
def test_wrong_words_of_fix_dplr_are_refused(fix, words, dipole, models, tmp_path):
    write_water_like(tmp_path / "system.data")
    text = script(models["plain"], "pppm/dplr 1e-5", fix.format(dipole=dipole, plain=models["plain"]))
    outcome = lammps_run.run_lammps(text, tmp_path)
    assert outcome.status != 0 and words in outcome.output, outcome.output[-1500:]
