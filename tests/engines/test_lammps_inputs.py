"""Inputs with a mistake in them and the words that let a user mend it; also inputs that must pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lammps_models import MODELS
from lammps_run import run_lammps

CREATE = [
    "boundary p p p",
    "region box block 0 8 0 8 0 8",
    "lattice sc 2.0",
    "create_box 2 box",
    "create_atoms 1 box basis 1 1",
    "set type 1 type/ratio 2 0.5 4711",
]
MASSES = ["mass 1 15.999", "mass 2 1.008"]


def script(style: str, coeff: str | None = "* * O H", **parts: list[str]) -> list[str]:
    """Input lines; parts: start, create, masses, after."""
    lines = parts.get("start", ["units metal", "atom_style atomic"]) + parts.get("create", CREATE)
    lines += parts.get("masses", MASSES) + [f"pair_style {style}"]
    lines += [] if coeff is None else [f"pair_coeff {coeff}"]
    return lines + parts.get("after", []) + ["run 0"]


@pytest.fixture(scope="session")
def files(models, tmp_path_factory) -> dict[str, str]:
    """Paths by name: the models, and files that are none."""
    import torch

    folder = tmp_path_factory.mktemp("files")
    paths = {name: str(path) for name, path in models.items()}
    content = models["plain"].read_bytes()
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    made = {"truncated": content[:-1000], "flipped": bytes(damaged), "empty": b"", "text": b"not a model\n"}
    for name, data in made.items():
        (folder / f"{name}.pth").write_bytes(data)
        paths[name] = str(folder / f"{name}.pth")
    torch.save({"model": {"weight": torch.zeros(3)}, "step": 1}, folder / "model.ckpt-1.pt")
    paths["checkpoint"] = str(folder / "model.ckpt-1.pt")
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1, 1)), folder / "foreign.pth")
    paths["foreign"] = str(folder / "foreign.pth")
    paths["nowhere"] = str(folder / "absent" / "model_devi.out")
    return paths


BONDED_DATA = """bonded

3 atoms
2 bonds
2 atom types
1 bond types
1 extra bond per atom
2 extra special per atom
-5 5 xlo xhi
-5 5 ylo yhi
-5 5 zlo zhi

Masses

1 15.999
2 1.008

Atoms # bond

1 1 1 0 0 0
2 1 2 0.96 0 0
3 1 2 -0.24 0.93 0

Bonds

1 1 1 2
2 1 1 3
"""


def bonded(path: Path, special: str) -> dict[str, list[str]]:
    path.write_text(BONDED_DATA)
    return {
        "start": ["units metal", "atom_style bond"], "masses": [],
        "create": [f"read_data {path}", "bond_style zero", "bond_coeff *", f"special_bonds {special}"],
    }  # fmt: skip


TEMPLATE = """water

3 atoms
2 bonds

Coords

1 0 0 0
2 0.96 0 0
3 -0.24 0.93 0

Types

1 1
2 2
3 2

Bonds

1 1 1 2
2 1 1 3

Special Bond Counts

1 2 0 0
2 1 1 0
3 1 1 0

Special Bonds

1 2 3
2 1 3
3 1 2
"""


def template(path: Path) -> dict[str, list[str]]:
    """Parts of a script whose atoms have their bonds in a molecule; default special_bonds take the pairs away."""
    path.write_text(TEMPLATE)
    return {
        "start": ["units metal", f"molecule water {path}", "atom_style template water"], "masses": MASSES,
        "create": [
            "region box block 0 8 0 8 0 8", "create_box 2 box bond/types 1", "bond_style zero", "bond_coeff *",
            "create_atoms 0 single 4 4 4 mol water 1 rotate 0 0 0 1",
        ],
    }  # fmt: skip


Table = dict[str, tuple[list[str], list[str]]]  # name: (input lines, words that the error must contain)


def bad_files(files: dict[str, str], folder: Path) -> Table:
    """Model files that are none."""
    return {
        "no file": (script("deepmd"), ["no model file", "pair_style deepmd graph.pth"]),
        "missing file": (script("deepmd absent.pth"), ["absent.pth", "No such file"]),
        "name of older manuals": (
            script(f"deepmd {files['plain'].removesuffix('pth')}pb"), ["plain.pb", "plain.pth' is there"],
        ),
        "folder": (script(f"deepmd {folder}"), [str(folder), "directory"]),
        "empty": (script(f"deepmd {files['empty']}"), ["empty.pth", "empty"]),
        "text": (script(f"deepmd {files['text']}"), ["text.pth", "dp freeze"]),
        "truncated": (script(f"deepmd {files['truncated']}"), ["truncated.pth", "damaged"]),
        "flipped bit": (script(f"deepmd {files['flipped']}"), ["flipped.pth", "damaged"]),
        "checkpoint": (script(f"deepmd {files['checkpoint']}"), ["checkpoint", "dp freeze"]),
        "foreign model": (script(f"deepmd {files['foreign']}"), ["foreign.pth", "dp convert-backend"]),
    }  # fmt: skip


def bad_words(files: dict[str, str], folder: Path) -> Table:
    """Words of pair_style."""
    plain = f"deepmd {files['plain']}"
    two = f"deepmd {files['plain']} {files['other']}"
    vector = "compute v all reduce sum x y z"
    return {
        "unknown keyword": (script(f"{plain} bogus 1"), ["unknown keyword 'bogus'"]),
        "misspelt keyword": (script(f"{plain} out_frq 10"), ["'out_frq'", "did you mean 'out_freq'"]),
        "word after the keywords": (script(f"{plain} atomic foo"), ["unknown keyword 'foo'"]),
        "unsupported keyword": (script(f"{plain} charge_spin 1"), ["'charge_spin'", "not supported", "fparam"]),
        "bad switch": (script(f"{plain} masscheck maybe"), ["'masscheck'", "on or off", "'maybe'"]),
        "selection upside down": (
            script(f"{two} select 0.3 0.1 x.extxyz"), ["'select'", "0.3 and 0.1", "lower one first"],
        ),
        "selection of nothing": (script(f"{two} select 0.1 0.1 x.extxyz"), ["'select'", "lower one first"]),
        "selection without a name": (script(f"{two} select 0.1 0.3"), ["'select'", "value must follow"]),
        "selection with a number": (script(f"{two} select 0.1 0.3 0.5"), ["'select'", "file name", "'0.5'"]),
        "selection without levels": (script(f"{two} select x.extxyz"), ["'select'", "needs a number", "'x.extxyz'"]),
        "selection of one model": (
            script(f"{plain} select 0.1 0.3 x.extxyz"), ["'select'", "one model", "at least two"],
        ),
        "selection without deviations": (
            script(f"{two} out_freq 0 select 0.1 0.3 x.extxyz"), ["'select'", "out_freq 0", "number of steps"],
        ),
        "stop without deviations": (script(f"{two} stop_above 1 out_freq 0"), ["'stop_above'", "out_freq 0"]),
        "stop with one model": (script(f"{plain} stop_above 1"), ["'stop_above'", "one model"]),
        "stop below nothing": (script(f"{two} stop_above -1"), ["'stop_above'", "not be negative"]),
        "stop after no check": (script(f"{two} stop_above 1 checks 0"), ["checks", "at least one"]),
        "observers of one model": (script(f"{plain} observers mixed"), ["'observers'", "one model", "at least two"]),
        "observers of no precision": (script(f"{two} observers half"), ["'observers'", "float64, mixed", "'half'"]),
        "deviation of one model": (
            script(plain, after=["fix a all pair 1 deepmd devi_f 0"]), ["devi_f", "one model", "at least two"],
        ),
        "fparam without numbers": (script(f"{plain} fparam"), ["'fparam'", "numbers"]),
        "fparam not taken": (script(f"{plain} fparam 1.0"), ["takes no fparam"]),
        "fparam missing": (script(f"deepmd {files['fparam']}"), ["needs 2", "fparam"]),
        "fparam too few": (script(f"deepmd {files['fparam']} fparam 1"), ["exactly 2", "got 1"]),
        "fparam too many": (script(f"deepmd {files['fparam']} fparam 1 2 3"), ["exactly 2", "got 3"]),
        "aparam missing": (script(f"deepmd {files['aparam']} fparam 1"), ["needs 1", "aparam"]),
        "aparam too many": (script(f"deepmd {files['aparam']} fparam 1 aparam 1 2"), ["exactly 1", "got 2"]),
        "two sources": (
            script(f"deepmd {files['fparam']} fparam 1 2 fparam_from_compute v"),
            ["fparam_from_compute", "exclude"],
        ),
        "no such compute": (script(f"deepmd {files['fparam']} fparam_from_compute v"), ["no compute", "'v'"]),
        "short compute": (
            script(f"deepmd {files['fparam']} fparam_from_compute v", after=[vector]),
            ["'v'", "vector of length 2"],
        ),
        "compute without atoms": (
            script(f"deepmd {files['aparam']} fparam 1 aparam_from_compute v", after=[vector]),
            ["'v'", "per atom"],
        ),
    }  # fmt: skip


def bad_elements(files: dict[str, str], folder: Path) -> Table:
    """Names and masses."""
    plain = f"deepmd {files['plain']}"
    return {
        "unknown element": (script(plain, "* * O Fe"), ["element Fe not found", "O H"]),
        "too few names": (script(plain, "* * O"), ["got 1", "2 atom type", "NULL"]),
        "too many names": (script(plain, "* * O H H"), ["got 3", "2 atom type"]),
        "not all types": (script(plain, "1 2 O H"), ["must start with * *"]),  # LAMMPS' own words
        "no pair_coeff": (script(plain, None), ["All pair coeffs are not set"]),
        "swapped names": (script(plain, "* * H O"), ["type 1", "15.999", "O rather than H", "masscheck off"]),
        "swapped masses": (
            script(plain, masses=["mass 1 1.008", "mass 2 15.999"]),
            ["type 1", "1.008", "H rather than O"],
        ),
        "close elements swapped": (
            script(f"deepmd {files['metals']}", "* * Co Ni", masses=["mass 1 58.693", "mass 2 58.933"]),
            ["type 1", "Ni rather than Co"],
        ),
        "bare line, swapped": (
            script(plain, "* *", masses=["mass 1 1.008", "mass 2 15.999"]),
            ["without names", "pair_coeff * * H O"],
        ),
        "bare line, foreign mass": (
            script(plain, "* *", masses=["mass 1 15.999", "mass 2 55.8"]),
            ["type 2", "55.8", "pair_coeff * * O <element of type 2>"],
        ),
        "bare line, two types, one element": (
            script(f"deepmd {files['hydrogen']}", "* *", masses=["mass 1 1.008", "mass 2 1.008"]),
            ["only 1 element"],
        ),
    }  # fmt: skip


def bad_surroundings(files: dict[str, str], folder: Path) -> Table:
    """What the rest of the input does."""
    plain = f"deepmd {files['plain']}"
    two = f"deepmd {files['plain']} {files['other']}"
    return {
        "units lj": (script(plain, start=["units lj", "atom_style atomic"]), ["units lj", "units metal"]),
        "newton off": (
            script(plain, start=["units metal", "newton off", "atom_style atomic"]),
            ["newton off", "write 'newton on'"],
        ),
        "spins": (script(plain, start=["units metal", "atom_style spin"]), ["atom_style spin"]),
        "neigh_modify include": (
            script(plain, after=["group some type 1", "atom_modify first some", "neigh_modify include some"]),
            ["neigh_modify include", "NULL"],
        ),
        "comm_modify group": (
            script(plain, after=["group some type 1", "atom_modify first some", "comm_modify group some"]),
            ["comm_modify group", "NULL"],
        ),
        "bonded pairs dropped": (
            script(plain, **bonded(folder / "bonded.data", "lj/coul 0 0 0")),
            ["special_bonds", "lj/coul 1 1 1"],
        ),
        "bonded pairs of a template dropped": (
            script(plain, **template(folder / "water.mol")), ["special_bonds", "lj/coul 1 1 1"],
        ),
        "ensemble of other elements": (
            script(f"deepmd {files['plain']} {files['metals']}"),
            ["plain.pth", "metals.pth", "O H and Co Ni", "same type_map"],
        ),
        "ensemble with and without a type": (
            script(f"deepmd {files['plain']} {files['hydrogen']}"),
            ["hydrogen.pth", "O H and H", "same type_map"],
        ),
        "ensemble of other parameters": (
            script(f"deepmd {files['fparam']} {files['default_fparam']} fparam 1 2"),
            ["do not fit together", "2 and 1 fparam", "numb_fparam"],
        ),
        "ensemble of other atomic parameters": (
            script(f"deepmd {files['default_fparam']} {files['aparam']} fparam 1"),
            ["do not fit together", "0 and 1 aparam", "numb_aparam"],
        ),
        "unwritable deviations": (
            script(f"deepmd {files['plain']} {files['other']} out_file {files['nowhere']}"),
            ["model_devi.out", "No such file"],
        ),
        "other columns than before": (
            script(f"deepmd {files['plain']} {files['other']} out_file {folder / 'columns.out'}", after=[
                f"pair_style deepmd {files['plain']} {files['other']} atomic out_file {folder / 'columns.out'}",
            ]),
            ["columns.out", "other columns", "another out_file"],
        ),
        "frames into nowhere": (
            script(f"{two} out_file {folder / 'x.out'} select 0 1 {Path(files['nowhere']).parent / 'x.extxyz'}"),
            ["selected frames", "x.extxyz", "No such file"],
        ),
        "frames into a file": (
            script(f"{two} out_file {folder / 'y.out'} select 0 1 {files['text']}"),
            ["selected frames", "text.pth"],
        ),
        "a folder in a slab": (
            script(f"{two} out_file {folder / 'z.out'} select 0 1 {folder / 'slab'}",
                   create=["boundary p p f", *CREATE[1:]]),
            ["periodic in 2", ".extxyz"],
        ),
        "atomic with holes in the IDs": (
            script(
                f"deepmd {files['plain']} {files['other']} atomic out_file devi.out",
                after=["delete_atoms random count 1 yes all NULL 3 compress no"],
            ),
            ["atomic", "reset_atoms id"],
        ),
        "atoms on one spot": (
            script(plain, after=["create_atoms 1 single 2.001 2.001 2.003 units box"]),
            ["atom 22", "atom 65", "Angstrom apart", "delete_atoms overlap"],
        ),
        "scale for one type only": (
            script(plain, after=["variable s equal 0.5", "fix a all adapt 1 pair deepmd scale 1 1 v_s"]),
            ["scale", "* *"],
        ),
    }  # fmt: skip


def bad_inputs(files: dict[str, str], folder: Path) -> Table:
    """All of them."""
    table: Table = {}
    for part in (bad_files, bad_words, bad_elements, bad_surroundings):
        table |= part(files, folder)
    return table


def good_inputs(files: dict[str, str], folder: Path) -> dict[str, list[str]]:
    """Inputs that must run."""
    plain = f"deepmd {files['plain']}"
    deuterium = ["mass 1 16.0", "mass 2 2.0"]
    temperature = ["velocity all create 300 1", "compute v all temp"]
    return {
        "names": script(plain),
        "bare line with masses": script(plain, "* *"),
        "bare line with deuterium": script(plain, "* *", masses=deuterium),
        "bare line, one element": script(
            f"deepmd {files['hydrogen']}", "* *", masses=["mass 1 1.0"],
            create=[*CREATE[:3], "create_box 1 box", "create_atoms 1 box"],
        ),
        "deuterium": script(plain, masses=deuterium),
        "mass check off": script(f"{plain} masscheck off", "* * H O"),
        "self-test off": script(f"{plain} selftest off"),
        "one element twice": script(plain, "* * H H", masses=["mass 1 1.008", "mass 2 2.014"]),
        "default fparam": script(f"deepmd {files['default_fparam']}"),
        "fparam over the default": script(f"deepmd {files['default_fparam']} fparam 0.3"),
        "fparam from compute": script(f"deepmd {files['default_fparam']} fparam_from_compute v", after=temperature),
        "energy of single precision units": script(plain, start=["units real", "atom_style atomic"]),
        "two models of one kind": script(f"deepmd {files['plain']} {files['other']} out_freq 0"),
        "exclusions": script(plain, after=["neigh_modify exclude type 1 1"]),
        "bonds of full weight": script(plain, **bonded(folder / "good.data", "lj/coul 1 1 1")),
        "the same atoms without bonds": script(
            plain, masses=[], start=["units metal", "atom_style bond"], create=[f"read_data {folder / 'good.data'}",
            "bond_style zero", "bond_coeff *", "special_bonds lj/coul 1 1 1", "delete_bonds all bond 1 remove special"],
        ),
        "bonds of tiny weight": script(plain, **bonded(folder / "tiny.data", "lj/coul 1e-50 1e-50 1e-50")),
        "invisible type": script(plain, "* * O NULL"),
        "all invisible": script(plain, "* * NULL NULL"),
        "models in another order": script(f"{plain} {files['permuted']} out_file {folder / 'order.out'}"),
        "models of another cutoff": script(f"{plain} {files['long']} out_file {folder / 'cutoff.out'}"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def answers(files, run_cases, tmp_path_factory):
    """All inputs, run once."""
    folder = tmp_path_factory.mktemp("inputs")
    bad = bad_inputs(files, folder)
    good = good_inputs(files, folder)
    return run_cases({**{name: lines for name, (lines, _) in bad.items()}, **good})


# The names are needed before the models exist.
NAMES = {key: "x" for key in (*MODELS, "empty", "text", "truncated", "flipped", "checkpoint", "foreign", "nowhere")}


@pytest.mark.parametrize("name", bad_inputs(NAMES, Path("/tmp")))
def test_a_mistake_is_named_with_its_remedy(name, answers, files, tmp_path):
    words = bad_inputs(files, tmp_path)[name][1]
    error = answers[name]["error"]
    assert error is not None, f"no error; LAMMPS said:\n{answers[name]['screen'][-1500:]}"
    missing = [word for word in words if word not in error and word != str(tmp_path)]
    assert missing == [], error


@pytest.mark.parametrize("name", good_inputs(NAMES, Path("/tmp")))
def test_a_right_input_runs(name, answers):
    assert answers[name]["error"] is None
    assert np.isfinite(answers[name]["energy"])


def test_masses_and_defaults_do_not_change_the_energy(answers):
    energy = {name: answers[name]["energy"] for name in good_inputs(NAMES, Path("/tmp"))}
    same = ("bare line with masses", "deuterium", "bare line with deuterium", "self-test off", "two models of one kind",
            "models in another order", "models of another cutoff")  # fmt: skip
    for name in same:
        assert energy[name] == energy["names"]
    assert energy["default fparam"] == energy["fparam over the default"] != energy["names"]
    assert energy["fparam from compute"] != energy["default fparam"]
    assert energy["mass check off"] != energy["names"]
    assert energy["bonds of full weight"] == energy["bonds of tiny weight"] == energy["the same atoms without bonds"]
    assert energy["all invisible"] == 0.0


def test_the_report_names_model_types_and_masses(answers, files):
    screen = answers["deuterium"]["screen"]
    assert ">>> Info of model(s):" in screen and files["plain"] in screen and "self-test passed" in screen
    assert "rcut in model:      4" in screen and "ntypes in model:    2" in screen
    table = [line.split() for line in screen.splitlines()]
    assert ["1", "16", "O", "0"] in table and ["2", "2", "H", "1"] in table
    table = [line.split() for line in answers["invisible type"]["screen"].splitlines()]
    assert ["2", "1.008", "NULL", "invisible"] in table
    assert "neigh_modify exclude" in answers["exclusions"]["screen"]


@pytest.mark.parametrize("ranks", [1, 3])
def test_atoms_on_one_spot_end_the_program(ranks, models, tmp_path):
    lines = script(f"deepmd {models['plain']}", after=["create_atoms 1 single 4.01 4.0 4.0 units box"])
    outcome = run_lammps("\n".join(lines), tmp_path, ranks)
    assert outcome.status != 0
    assert "0.01 Angstrom apart" in outcome.output, outcome.output[-2000:]
    assert "atom 65 " in outcome.output
    assert "nan" not in outcome.output.lower()


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_bad_model_ends_the_program(ranks, files, tmp_path):
    outcome = run_lammps("\n".join(script(f"deepmd {files['flipped']}")), tmp_path, ranks)
    assert outcome.status != 0
    assert outcome.output.count("ERROR:") == 1 and "damaged" in outcome.output
