"""`dp check`: every fault of the table is refused with words that name file and frame; sound data pass."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from deepmd.data import load_systems, write_system
from deepmd.data.arrays import forget_arrays
from deepmd.data.check import check_systems, main
from deepmd.errors import DataError, InputError


def edit(name: str, change):
    """A fault that rewrites one array: `change(values)` edits in place or returns the new values."""

    def apply(folder: Path) -> None:
        path = folder / name
        values = np.load(path)
        result = change(values)
        np.save(path, values if result is None else result)

    return apply


def put(name: str, index, value):
    """A fault that sets one element."""

    def change(values):
        values[index] = value

    return edit(name, change)


def text(name: str, content: str | bytes):
    """A fault that replaces a file by text or bytes."""
    raw = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(raw)


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def cut(name: str, size: int):
    return lambda folder: os.truncate(folder / name, size)


def raw_text(**files: str):
    """A fault in raw text: replaces the sets by a raw folder of two atoms with the given files."""

    def apply(folder: Path) -> None:
        for path in sorted(folder.glob("set.*/*")):
            path.unlink()
        for path in folder.glob("set.*"):
            path.rmdir()
        sound = {
            "type": "0 1",
            "coord": "0 0 0 0 0 1\n0 0 0 0 0 1.1",
            "box": "9 0 0 0 9 0 0 0 9\n" * 2,
            "energy": "1\n2",
        }
        for stem, content in {**sound, **files}.items():
            (folder / f"{stem}.raw").write_text(content)

    return apply


def mixed(types: list[list[int]], sets: tuple[int, ...] = (0, 1)):
    """A fault in mixed data: one frame's types a row, six atoms."""

    def apply(folder: Path) -> None:
        for number in sets:
            np.save(folder / f"set.00{number}/real_atom_types.npy", np.array(types))

    return apply


class Opener:
    """Opening this pickle leaves a file behind: the canary of code that ran."""

    def __init__(self, canary: str):
        self.canary = canary

    def __reduce__(self):
        return (open, (self.canary, "w"))


def pickled(name: str, shape: tuple[int, ...] = (4,)):
    def apply(folder: Path) -> None:
        values = np.empty(shape, dtype=object)
        values.flat[0] = Opener(str(folder / "canary"))
        np.save(folder / name, values, allow_pickle=True)

    return apply


def bare_pickle(folder: Path) -> None:
    (folder / "set.000/energy.npy").write_bytes(pickle.dumps(Opener(str(folder / "canary"))))


def overlap(folder: Path) -> None:
    path = folder / "set.001/coord.npy"
    values = np.load(path)
    values[1, 9:12] = values[1, 3:6] + 0.01
    np.save(path, values)


def overlap_through_the_wall(folder: Path) -> None:
    path = folder / "set.001/coord.npy"
    values, box = np.load(path), np.load(folder / "set.001/box.npy")
    values[0, 9:12] = values[0, 3:6] + box[0, :3] - 2 * box[0, 6:9]
    np.save(path, values)


NAN, INF = float("nan"), float("inf")

# fault: (what to do to a sound system of 4 + 4 frames and 6 atoms in two sets, the words that must be said)
FAULTS = {
    "nan position": (
        put("set.001/coord.npy", (2, 7), NAN),
        r"set.001/coord.npy, frame 2, atom 2 \(y\): positions is nan",
    ),
    "inf position": (
        put("set.000/coord.npy", (0, 0), INF),
        r"set.000/coord.npy, frame 0, atom 0 \(x\): positions is inf",
    ),
    "nan energy": (put("set.000/energy.npy", 3, NAN), r"set.000/energy.npy, frame 3: energy is nan"),
    "inf energy": (put("set.001/energy.npy", 1, -INF), r"set.001/energy.npy, frame 1: energy is -inf"),
    "nan force": (put("set.000/force.npy", (1, 17), NAN), r"set.000/force.npy, frame 1, atom 5 \(z\): force is nan"),
    "inf force": (put("set.001/force.npy", (3, 3), INF), r"set.001/force.npy, frame 3, atom 1 \(x\): force is inf"),
    "several nan": (put("set.000/force.npy", (1, slice(0, 9)), NAN), r"frame 1, atom 0 \(x\).*one of 9 such values"),
    "nan virial": (put("set.001/virial.npy", (2, 4), NAN), r"set.001/virial.npy, frame 2: virial is nan"),
    "nan cell": (put("set.000/box.npy", (2, 8), NAN), r"set.000/box.npy, frame 2: cell is nan"),
    "inf single precision": (
        edit("set.000/force.npy", lambda v: np.where(np.arange(v.size).reshape(v.shape) == 19, INF, v).astype("f4")),
        r"set.000/force.npy, frame 1, atom 0 \(y\): force is inf",
    ),
    "nan parameter": (
        lambda folder: np.save(folder / "set.000/aparam.npy", np.full((4, 6), NAN)),
        r"set.000/aparam.npy, frame 0, atom 0: aparam is nan",
    ),
    "zero cell": (put("set.001/box.npy", 1, 0.0), r"set.001/box.npy, frame 1: the cell is singular"),
    "flat cell": (put("set.000/box.npy", (3, slice(6, 9)), [6.2, 6.2, 0.0]), r"box.npy, frame 3: the cell is singular"),
    "left-handed cell": (put("set.000/box.npy", (2, 8), -6.2), r"set.000/box.npy, frame 2: the cell is left-handed"),
    "overlap": (overlap, r"set.001/coord.npy, frame 1: atoms 1 and 3 are 0.0173 A apart"),
    "overlap of images": (overlap_through_the_wall, r"set.001/coord.npy, frame 0: atoms 1 and 3 are .* A apart"),
    "narrow coord": (edit("set.001/coord.npy", lambda v: v[:, :15]), r"set.001/coord.npy has 15 numbers.*frame 0.*18"),
    "narrow force": (edit("set.000/force.npy", lambda v: v[:, :17]), r"set.000/force.npy has 17 numbers.*frame 0.*18"),
    "wide virial": (edit("set.000/virial.npy", lambda v: np.ones((4, 6))), r"virial.npy has 6 numbers.*frame 0.*9"),
    "narrow box": (edit("set.000/box.npy", lambda v: v[:, :3]), r"set.000/box.npy has 3 numbers a frame.*expected 9"),
    "fewer forces": (edit("set.000/force.npy", lambda v: v[:3]), r"set.000/force.npy has 3 frames.*4.*frame 3 is"),
    "more energies": (
        edit("set.001/energy.npy", lambda v: np.ones(5)),
        r"energy.npy has 5 frames, expected 4.*frame 4",
    ),
    "fewer boxes": (edit("set.001/box.npy", lambda v: v[:2]), r"set.001/box.npy has 2 frames, expected 4.*frame 2"),
    "flat array of fewer frames": (
        edit("set.000/force.npy", lambda v: v[:3].ravel()),
        r"force.npy has 3 frames.*frame 3",
    ),
    "transposed force": (edit("set.000/force.npy", lambda v: v.T), r"set.000/force.npy has 18 frames.*frame 4"),
    "no frames": (edit("set.000/coord.npy", lambda v: v[:0]), r"set.000/coord.npy has no frames \(shape \(0, 18\)\)"),
    "no energies": (edit("set.000/energy.npy", lambda v: v[:0]), r"set.000/energy.npy has 0 frames.*frame 0"),
    "scalar coord": (edit("set.000/coord.npy", lambda v: np.array(1.0)), r"set.000/coord.npy has no frames"),
    "truncated": (cut("set.001/force.npy", 300), r"set.001/force.npy is truncated: 300 bytes, expected 704"),
    "truncated header": (cut("set.000/coord.npy", 40), r"set.000/coord.npy is not a NumPy .npy file"),
    "empty file": (cut("set.000/virial.npy", 0), r"set.000/virial.npy is an empty file"),
    "text as npy": (text("set.000/energy.npy", "1\n2\n3\n4\n"), r"set.000/energy.npy is not a NumPy .npy file"),
    "random bytes": (text("set.000/force.npy", bytes(range(256)) * 4), r"set.000/force.npy is not a NumPy .npy file"),
    "pickled energies": (pickled("set.001/energy.npy"), r"set.001/energy.npy holds pickled Python objects"),
    "pickled positions": (pickled("set.000/coord.npy", (4, 18)), r"set.000/coord.npy holds pickled Python objects"),
    "bare pickle": (bare_pickle, r"set.000/energy.npy is not a NumPy .npy file"),
    "text values": (edit("set.000/energy.npy", lambda v: v.astype(str)), r"energy.npy holds values of type <U"),
    "complex values": (edit("set.000/force.npy", lambda v: v * 1j), r"force.npy holds values of type complex128"),
    "record values": (edit("set.000/energy.npy", lambda v: np.zeros(4, "f8,i4")), r"energy.npy holds values of type"),
    "no positions": (remove("set.001/coord.npy"), r"set.001 has no coord.npy"),
    "no box": (remove("set.001/box.npy"), r"set.001 has no box.npy.*nopbc"),
    "no sets": (
        lambda folder: [p.rename(p.with_name("x" + p.name)) for p in folder.glob("set.*")],
        r"neither set.* nor",
    ),
    "type too large": (text("type.raw", "0 1 1 0 1 2"), r"type.raw, atom 5: type 2, expected 0 to 1.*\['O', 'H'\]"),
    "negative type": (text("type.raw", "0 1 -1 0 1 1"), r"type.raw, atom 2: type -1, expected 0 to 1"),
    "too few types": (text("type.raw", "0 1 1 0 1"), r"set.000/coord.npy has 18 numbers.*expected 15 for the 5 atoms"),
    "type names in type.raw": (text("type.raw", "O H H O H H"), r"type.raw, atom 0: 'O' is not an integer"),
    "empty type.raw": (text("type.raw", "\n"), r"type.raw is empty"),
    "binary type.raw": (text("type.raw", b"\xff\xfe\x00"), r"type.raw is not text"),
    "empty map": (text("type_map.raw", " \n"), r"type_map.raw is empty"),
    "double name": (text("type_map.raw", "O\nO\n"), r"type_map.raw names O twice"),
    "unknown element": (text("type_map.raw", "O\nXe\n"), r"type_map.raw: element Xe \(atom 1\) is not in the model's"),
    "mixed type too large": (
        mixed([[0, 1, 1, 0, 1, 5]] * 4),
        r"real_atom_types.npy, frame 0, atom 5: type 5, expected -1 to",
    ),
    "mixed type too small": (mixed([[0] * 6, [-2] * 6] * 2), r"real_atom_types.npy, frame 1, atom 0: type -2"),
    "mixed sets by halves": (mixed([[0] * 6] * 4, sets=(0,)), r"set.001 has no real_atom_types.npy"),
    "raw word": (raw_text(energy="1\nx2\n"), r"energy.raw, frame 1: 'x2' is not a number"),
    "raw short line": (raw_text(coord="0 0 0 0 0 1\n0 0 0 0 1\n"), r"coord.raw, frame 1: 5 numbers, expected 6"),
    "raw empty": (raw_text(energy=" \n"), r"energy.raw holds no numbers"),
    "raw binary": (raw_text(energy="1\n\x00\n"), r"energy.raw, frame 1: "),
    "raw nan": (raw_text(energy="1\nnan\n"), r"energy.raw, frame 1: energy is nan"),
    "raw fewer frames": (raw_text(box="9 0 0 0 9 0 0 0 9\n", energy="1\n2\n"), r"box.raw has .* expected"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named(fault, tmp_path, tiny):
    spoil, words = FAULTS[fault]
    made = tiny(n_frames=8, n_molecules=2, seed=3)
    folder = write_system(tmp_path / "data", made["types"], made["type_map"], made["data"], set_size=4)
    spoil(folder)
    forget_arrays()
    with pytest.raises(DataError, match=words) as caught:
        check_systems(load_systems(str(folder), ["H", "O"]))
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message
    assert not (folder / "canary").exists(), "code of a data file has run"


def test_the_table_is_long_enough():
    assert len(FAULTS) >= 40


def test_mixed_frame_of_virtual_atoms_only(tmp_path):
    data = {"positions": np.arange(18.0).reshape(2, 3, 3)}
    write_system(tmp_path / "m", np.array([[0, 1, -1], [-1, -1, -1]]), ["O", "H"], data)
    with pytest.raises(DataError, match=r"real_atom_types.npy, frame 1: all atoms are virtual"):
        check_systems(load_systems(str(tmp_path / "m")))


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
@pytest.mark.parametrize("name", ["coord", "energy"])
def test_damaged_bytes_are_data_errors_or_nothing(name, tiny_system):
    folder = tiny_system("a", n_frames=4)
    path = folder / f"set.000/{name}.npy"
    sound = path.read_bytes()
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(300):
        damaged = bytearray(sound[: rng.integers(0, len(sound))] if rng.random() < 0.2 else sound)
        for place in rng.integers(0, min(128, max(len(damaged), 1)), 3):
            if len(damaged) > place:
                damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        forget_arrays()
        try:
            check_systems(load_systems(str(folder)))
        except DataError as error:
            refused += str(folder) in str(error)
    assert refused > 200


def test_hdf5_fault_is_named(tmp_path):
    with h5py.File(tmp_path / "d.hdf5", "w") as handle:
        handle["s/type.raw"] = [0, 0]
        handle["s/nopbc"] = True
        handle["s/set.000/coord.npy"] = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, np.nan, 1]])
    with pytest.raises(DataError, match=r"d.hdf5#/s/set.000/coord.npy, frame 1, atom 1 \(y\): positions is nan"):
        check_systems(load_systems(str(tmp_path / "d.hdf5")))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ("H 0 0 x 0 0 0", r"x.xyz, frame 1: not readable as extended xyz"),
        ("H 0 0 nan 0 0 0", r"x.xyz \(coord\), frame 1, atom 0 \(z\): positions is nan"),
        ("H 0 0 0 0 inf 0", r"x.xyz \(force\), frame 1, atom 0 \(y\): force is inf"),
    ],
)
def test_extxyz_fault_is_named(frame, words, tmp_path):
    head = '1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=1 pbc="F F F"\n'
    (tmp_path / "x.xyz").write_text(f"{head}H 0 0 0 0 0 0\n{head}{frame}\n")
    with pytest.raises(DataError, match=words):
        check_systems(load_systems(str(tmp_path / "x.xyz")))


def test_extxyz_label_of_some_frames_only(tmp_path):
    head = '1\nProperties=species:S:1:pos:R:3 {} pbc="F F F"\nH 0 0 0\n'
    (tmp_path / "x.xyz").write_text(head.format("energy=1") + head.format("step=2"))
    with pytest.raises(DataError, match=r"x.xyz, frame 1: no energy, which other frames of its kind have"):
        load_systems(str(tmp_path / "x.xyz"))


def test_sound_data_pass(tiny_system):
    report = check_systems(load_systems(str(tiny_system("a", n_frames=8, set_size=3))))
    (one,) = report.systems
    assert not report.faults and not report.warnings
    assert one.elements == {"O": 4, "H": 8}
    assert set(one.distances) == {"O-O", "H-O", "H-H"} or set(one.distances) == {"H-O", "H-H"}
    assert 0.7 < one.distances["H-O"]["distance"] < 0.96
    assert one.energy_per_atom[0] <= one.energy_per_atom[1] and one.force_largest > one.force_rms > 0


def test_all_faults_are_listed(tiny_system, tmp_path, capsys):
    first, second = tiny_system("d/a"), tiny_system("d/b")
    put("set.000/energy.npy", 1, NAN)(first)
    put("set.000/force.npy", (0, 0), INF)(first)
    (second / "set.000/coord.npy").unlink()
    args = SimpleNamespace(
        systems=[str(tmp_path / "d"), str(tmp_path / "none")], report=str(tmp_path / "r.json"), plot=None
    )
    with pytest.raises(DataError, match=r"\(and 3 more\)"):
        main(args)
    out = capsys.readouterr().out
    assert out.count("fault: ") == 4 and "b/set.000 has no coord.npy" in out and "none does not exist" in out
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["n_faults"] == 4 and len(report["systems"]) == 1 and len(report["unreadable"]) == 2


def test_report_and_plot_are_written(tiny_system, tmp_path, capsys):
    args = SimpleNamespace(
        systems=[str(tiny_system("a"))], report=str(tmp_path / "r.json"), plot=str(tmp_path / "p.png")
    )
    assert main(args) == 0
    assert "0 fault(s), 0 warning(s)" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["systems"][0]["n_frames"] == 5
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"


def test_a_training_input_stands_for_its_data(tiny_system, tmp_path, capsys):
    from training_runs import changed, make_input

    jdata = changed(make_input(tiny_system("a")), training__validation_data__systems=str(tiny_system("b", n_frames=2)))
    args = SimpleNamespace(systems=[str(tmp_path / "input.json")], type_map=None, report=None, plot=None)
    (tmp_path / "input.json").write_text(json.dumps(jdata))
    assert main(args) == 0
    assert "2 system(s), 7 frames" in capsys.readouterr().out
    (tmp_path / "input.json").write_text(json.dumps(changed(jdata, training__nmb_steps=3)))
    with pytest.raises(InputError, match="numb_steps"):
        main(args)


@pytest.mark.parametrize(
    ("factor", "stem", "words"),
    [
        (1.8897, "coord", "not Bohr"),
        (0.1, "coord", "must be in Angstrom"),
        (27.2, "force", "forces must be in eV/A"),
        (0.0, "force", "all forces are zero"),
        (0.0, "energy", "all energies are zero"),
    ],
)
def test_values_of_another_unit_are_warned_of(factor, stem, words, tmp_path, tiny):
    made = tiny(n_frames=6, periodic=False)
    keys = {"coord": "positions"}
    made["data"][keys.get(stem, stem)] *= factor
    folder = write_system(tmp_path / "a", made["types"], made["type_map"], made["data"])
    report = check_systems(load_systems(str(folder)), strict=False)
    assert any(words in line for line in report.warnings + report.faults)


def test_energies_of_single_precision_are_warned_of(tmp_path, tiny):
    made = tiny(n_frames=3)
    made["data"]["energy"] = np.float32(made["data"]["energy"] - 29944.3)
    report = check_systems(load_systems(str(write_system(tmp_path / "a", made["types"], ["O", "H"], made["data"]))))
    assert [line for line in report.warnings if "single precision" in line and "2e-04 eV per atom" in line]


def lennard_jones(positions: np.ndarray, cell: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Forces and virial -dE/d(strain) of a Lennard-Jones fluid."""
    from deepmd.data.distances import numpy_pairs

    i, j, vectors = numpy_pairs(positions, cell, 2.9)
    r2 = (vectors**2).sum(axis=1)
    slope = 4 * (-12 * r2**-7 + 6 * r2**-4)[:, None] * vectors  # dE_pair/d(vector), each pair seen twice
    force = np.zeros_like(positions)
    np.add.at(force, i, slope)
    return force, -0.5 * slope.T @ vectors


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("periodic", [False, True])
def test_sign_of_virials(periodic, reverse, tmp_path):
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3) * 1.12
    positions = grid + rng.normal(0, 0.06, (30, 64, 3))
    cell = np.eye(3) * 4 * 1.12 if periodic else None
    labels = [lennard_jones(frame, cell) for frame in positions]
    virial = np.array([virial for _, virial in labels]) * (-1 if reverse else 1)
    data = {"positions": positions, "force": np.array([force for force, _ in labels]), "virial": virial}
    if periodic:
        data["cell"] = np.repeat(cell[None], 30, axis=0)
    write_system(tmp_path / "lj", np.zeros(64, int), ["Ar"], data)
    (one,) = check_systems(load_systems(str(tmp_path / "lj"))).systems
    assert one.virial == ("sign seems reversed" if reverse else "sign as expected")
    assert any("wrong sign" in line for line in one.warnings) == reverse


def test_shared_data_are_sound(shared):
    sound = ["water/data", "fparam", "nopbc", "spin/data_reformat", "property", "hessian", "water/dplr", "made"]
    report = check_systems(load_systems([str(shared(name)) for name in sound]), max_frames=300)
    assert not report.faults
    (dplr,) = [one for one in report.systems if "dplr" in one.name]
    assert dplr.virial == "sign as expected"


def test_shared_data_with_padding_atoms_are_refused(shared):
    with pytest.raises(DataError, match=r"zinc_protein.*coord.npy, frame 0: atoms 19 and 20 are 0 A apart"):
        check_systems(load_systems(str(shared("zinc_protein/train_data_dp_mask"))))
