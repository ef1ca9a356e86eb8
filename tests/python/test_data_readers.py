"""Every container of the same frames reads the same; names, boundaries and missing labels are handled alike."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from checks import assert_close
from deepmd.data import System, load_systems, write_system
from deepmd.errors import DataError

FIELDS = ("positions", "cell", "types", "energy", "force", "virial")


def as_npy(folder: Path, made: dict) -> str:
    return str(write_system(folder / "npy", made["types"], made["type_map"], made["data"], set_size=2))


def as_float_rows(folder: Path, made: dict) -> str:
    """Energies as a column and arrays in Fortran order, as some programs write them."""
    path = write_system(folder / "rows", made["types"], made["type_map"], made["data"])
    for name in ("coord", "force"):
        values = np.load(path / "set.000" / f"{name}.npy")
        np.save(path / "set.000" / f"{name}.npy", np.asfortranarray(values))
    energy = np.load(path / "set.000/energy.npy")
    np.save(path / "set.000/energy.npy", energy[:, None])
    return str(path)


def as_raw(folder: Path, made: dict) -> str:
    path = folder / "raw"
    path.mkdir()
    (path / "type.raw").write_text("\n".join(str(k) for k in made["types"]))
    (path / "type_map.raw").write_text("\n".join(made["type_map"]))
    stems = {"positions": "coord", "cell": "box"}
    for key, values in made["data"].items():
        np.savetxt(path / f"{stems.get(key, key)}.raw", values.reshape(len(values), -1), fmt="%.18e")
    if "cell" not in made["data"]:
        (path / "nopbc").touch()
    return str(path)


def as_hdf5(folder: Path, made: dict) -> str:
    npy = Path(as_npy(folder / "for_hdf5", made))
    with h5py.File(folder / "all.hdf5", "w") as handle:
        group = handle.create_group("some/group")
        group["type.raw"] = made["types"]
        group["type_map.raw"] = np.array(made["type_map"], dtype=object)
        if (npy / "nopbc").exists():
            group["nopbc"] = True
        for path in sorted(npy.glob("set.*/*.npy")):
            group[f"{path.parent.name}/{path.name}"] = np.load(path)
    return str(folder / "all.hdf5#/some/group")


def as_mixed(folder: Path, made: dict) -> str:
    types = np.repeat(made["types"][None], len(made["data"]["energy"]), axis=0)
    return str(write_system(folder / "mixed", types, made["type_map"], made["data"], set_size=3))


def as_extxyz(folder: Path, made: dict) -> str:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    images = []
    for frame, positions in enumerate(made["data"]["positions"]):
        data = {key: values[frame] for key, values in made["data"].items()}
        symbols = [made["type_map"][k] for k in made["types"]]
        atoms = Atoms(symbols, positions=positions, cell=data.get("cell"), pbc="cell" in data)
        atoms.calc = SinglePointCalculator(atoms, energy=data["energy"], forces=data["force"])
        if "virial" in data:
            atoms.info["virial"] = data["virial"]
        images.append(atoms)
    write(folder / "frames.extxyz", images)
    return str(folder / "frames.extxyz")


KINDS = {"npy": as_npy, "rows": as_float_rows, "raw": as_raw, "hdf5": as_hdf5, "mixed": as_mixed, "extxyz": as_extxyz}


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_container_holds_the_same_frames(kind, periodic, tiny, tmp_path):
    made = tiny(n_frames=5, periodic=periodic)
    (tmp_path / "for_hdf5").mkdir()
    (system,) = load_systems(KINDS[kind](tmp_path, made), ["O", "H"])
    assert (system.n_frames, system.n_atoms, system.periodic) == (5, 12, periodic)
    assert system.mixed == (kind == "mixed")
    order = [4, 0, 2, 2]
    frames = system.frames(order)
    name = "same frames, text of 8 digits" if kind == "extxyz" else "same frames, other container"
    for key, values in made["data"].items():
        assert frames[key].dtype == np.float64
        assert_close(frames[key], values[order], name)
    assert np.array_equal(frames["types"], np.repeat(made["types"][None], 4, axis=0))
    assert np.array_equal(frames["types"], system.frame_types(order))
    if not periodic:
        assert frames["cell"] is None
    for key in ("energy", "force"):
        assert frames["find_" + key].all()
    assert frames["find_virial"].all() == periodic
    assert system.has("force") and system.has("virial") == periodic


@pytest.mark.parametrize("own", list(itertools.permutations(["O", "H", "Na"])))
@pytest.mark.parametrize("model", list(itertools.permutations(["H", "Na", "O"])))
@pytest.mark.parametrize("mixed", [False, True])
def test_types_follow_names(own, model, mixed, tmp_path):
    names = ["Na", "O", "H", "H"]
    types = np.array([own.index(name) for name in names])
    data = {"positions": np.arange(24.0).reshape(2, 4, 3)}
    write_system(tmp_path / "s", np.stack([types, types[::-1]]) if mixed else types, own, data)
    system = System.open(str(tmp_path / "s"), list(model))
    assert system.type_map == list(model)
    assert [model[k] for k in system.frame_types([0])[0]] == names
    assert [model[k] for k in system.frame_types([1])[0]] == (names[::-1] if mixed else names)


def test_virtual_atoms_stay(tmp_path):
    types = np.array([[0, 1, -1], [1, -1, -1]])
    write_system(tmp_path / "s", types, ["O", "H"], {"positions": np.ones((2, 3, 3))})
    system = System.open(str(tmp_path / "s"), ["H", "O"])
    assert system.frame_types().tolist() == [[1, 0, -1], [0, -1, -1]]
    with pytest.raises(DataError, match="mixed data.*frame_types"):
        _ = system.types


def test_types_without_names_are_indices_of_the_model(tiny_system):
    folder = tiny_system("a")
    (folder / "type_map.raw").unlink()
    assert System.open(str(folder), ["X", "Y", "Z"]).type_map == ["X", "Y", "Z"]
    assert System.open(str(folder)).type_map == ["Type_0", "Type_1"]


def test_unknown_names_matter_only_when_used(tiny_system):
    folder = tiny_system("a")
    (folder / "type_map.raw").write_text("O H Xe")
    assert System.open(str(folder), ["H", "O"]).n_atoms == 12
    with pytest.raises(DataError, match=r"type_map.raw: element O \(atom 0\) is not in the model's type_map \['H'\]"):
        System.open(str(folder), ["H"])


def test_label_of_one_set_only_is_marked(tiny_system):
    folder = tiny_system("a", n_frames=5, set_size=2)
    (folder / "set.001/force.npy").unlink()
    np.save(folder / "set.000/atomic_pref.npy", np.full((2, 12), 3.0))
    frames = System.open(str(folder)).frames([0, 2, 4])
    assert frames["find_force"].tolist() == [True, False, True]
    assert not frames["force"][1].any() and frames["force"][2].any()
    assert frames["find_atom_pref"].tolist() == [True, False, False]
    assert frames["atom_pref"][:, 0].tolist() == [3.0, 1.0, 1.0]
    assert frames["find_atom_ener"].tolist() == [False] * 3 and not frames["atom_ener"].any()


def test_parameters_are_checked_and_filled(tiny_system):
    folder = tiny_system("a", n_frames=4, set_size=2)
    np.save(folder / "set.000/fparam.npy", np.array([[1.0, 2.0], [3.0, 4.0]]))
    np.save(folder / "set.000/aparam.npy", np.arange(48.0).reshape(2, 24))
    np.save(folder / "set.001/aparam.npy", np.arange(48.0).reshape(2, 24))
    with pytest.raises(DataError, match=r"set.001 has no fparam.npy, which this model needs"):
        System.open(str(folder)).require(fparam=2)
    with pytest.raises(DataError, match=r"set.000/aparam.npy has 24 numbers a frame.*expected 36"):
        System.open(str(folder)).require(aparam=3)
    system = System.open(str(folder))
    system.require("energy", "force", fparam=2, aparam=2, fills={"fparam": [7.0, 8.0]})
    frames = system.frames([1, 2])
    assert frames["fparam"].tolist() == [[3.0, 4.0], [7.0, 8.0]]
    assert frames["find_fparam"].tolist() == [True, False]
    assert frames["aparam"].shape == (2, 12, 2) and frames["aparam"][0, 1].tolist() == [26.0, 27.0]


def test_missing_parameter_takes_its_default(tiny_system):
    system = System.open(str(tiny_system("a")))
    system.require(fparam=1, fills={"fparam": [0.5]})
    assert system.frames([0])["fparam"].tolist() == [[0.5]]


def test_required_label_must_be_in_every_set(tiny_system):
    folder = tiny_system("a", n_frames=4, set_size=2)
    (folder / "set.001/virial.npy").unlink()
    with pytest.raises(DataError, match=r"set.001 has no virial.npy"):
        System.open(str(folder)).require("virial")


def test_tensor_of_selected_atoms_is_spread(tiny_system):
    folder = tiny_system("a", n_frames=2)
    values = np.arange(2 * 4 * 3.0).reshape(2, 12)
    np.save(folder / "set.000/atomic_dipole.npy", values)
    system = System.open(str(folder))
    system.check_shapes()
    with pytest.raises(DataError, match="atomic_dipole holds 12 numbers a frame, expected 36"):
        system.frames([0], ["atomic_dipole"])
    system.require(selected=[0])
    spread = system.frames([1], ["atom_dipole"])["atomic_dipole"]
    assert np.array_equal(spread[0, ::3], values[1].reshape(4, 3)) and not spread[0, 1::3].any()


def test_property_of_any_name(tiny_system):
    folder = tiny_system("a", n_frames=2)
    np.save(folder / "set.000/gap.npy", np.array([1.5, 2.5]))
    system = System.open(str(folder))
    system.require(gap=1)
    assert system.frames([1], ["gap"])["gap"].tolist() == [[2.5]]


def test_frames_are_repeated_by_numb_copy(tiny_system):
    folder = tiny_system("a", n_frames=4, set_size=2)
    np.save(folder / "set.000/numb_copy.npy", np.array([2, 0]))
    system = System.open(str(folder))
    assert system.n_frames == 4
    energy = np.concatenate([np.load(folder / f"set.00{k}/energy.npy") for k in (0, 1)])
    assert system.frames()["energy"].tolist() == energy[[0, 0, 2, 3]].tolist()
    assert system.locate(2) == (str(folder / "set.001"), 0)


def test_one_frame_may_be_flat(tiny_system):
    folder = tiny_system("a", n_frames=1)
    for name in ("coord", "force", "box"):
        np.save(folder / f"set.000/{name}.npy", np.load(folder / f"set.000/{name}.npy").ravel())
    assert System.open(str(folder)).frames()["positions"].shape == (1, 12, 3)


def test_single_precision_files_come_out_as_float64(tiny_system):
    folder = tiny_system("a", n_frames=3)
    energy = np.float32([-1234.5678, 1.25, 2.5])
    np.save(folder / "set.000/energy.npy", energy)
    read = System.open(str(folder)).frames()["energy"]
    assert read.dtype == np.float64 and np.array_equal(read, energy.astype(np.float64))


@pytest.mark.parametrize("kind", ["npy", "hdf5"])
def test_files_that_are_written_again_are_read_again(kind, tiny, tmp_path, monkeypatch):
    """In one process, as in a notebook, with relative paths and more than one working folder."""
    made = tiny(n_frames=2)
    for name, shift in (("a", 0.0), ("b", 1.0), ("b", 2.0)):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        (tmp_path / name / "for_hdf5").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)
        energy = made["data"]["energy"] + shift
        system = System.open(KINDS[kind](Path(), {**made, "data": {**made["data"], "energy": energy}}))
        monkeypatch.chdir(tmp_path)
        np.testing.assert_array_equal(system.frames(keys=["energy"])["energy"], energy)


def test_extxyz_groups_by_composition_and_names_the_frame(tmp_path):
    lines = []
    for frame, symbols in enumerate(["OHH", "HH", "OHH", "HH"]):
        lines += [f"{len(symbols)}", f'Properties=species:S:1:pos:R:3:forces:R:3 energy={frame} pbc="F F F"']
        lines += [f"{name} {k} {frame} 0 0 0 {k}" for k, name in enumerate(symbols)]
    (tmp_path / "x.xyz").write_text("\n".join(lines) + "\n")
    first, second = load_systems(str(tmp_path / "x.xyz"), ["H", "O"])
    assert (first.n_frames, first.n_atoms, second.n_frames, second.n_atoms) == (2, 3, 2, 2)
    assert first.frames([1])["energy"].tolist() == [2.0] and second.frames([1])["energy"].tolist() == [3.0]
    assert first.types.tolist() == [1, 0, 0]
    assert second.file_of("force", 1).endswith("x.xyz (force), frame 3")


def test_extxyz_stress_becomes_virial(tmp_path):
    stress = np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]])
    text = " ".join(str(v) for v in stress.ravel())
    (tmp_path / "x.xyz").write_text(
        f'1\nLattice="2 0 0 0 2 0 0 0 2" Properties=species:S:1:pos:R:3 energy=1 stress="{text}" pbc="T T T"\nH 0 0 0\n'
    )
    (system,) = load_systems(str(tmp_path / "x.xyz"))
    assert_close(system.frames([0])["virial"][0], -8 * stress, "distance")


def test_shared_systems_load(shared):
    systems = load_systems(str(shared()))
    assert len(systems) >= 40
    for system in systems:
        system.check_shapes()
        frames = system.frames([0, system.n_frames - 1])
        assert frames["positions"].shape == (2, system.n_atoms, 3)
        assert (frames["cell"] is None) == (not system.periodic)


def test_shared_water(shared):
    (system,) = load_systems(str(shared("water/data/data_0")), ["H", "O"])
    assert (system.n_frames, system.n_atoms, system.periodic) == (80, 192, True)
    assert np.bincount(system.types).tolist() == [128, 64]
    frames = system.frames([79])
    assert frames["find_energy"].all() and frames["find_force"].all() and not frames["find_virial"].any()
    assert frames["energy"][0] == np.load(shared("water/data/data_0/set.000/energy.npy"))[79]
