"""The Python doors: array shapes that callers use, the ASE calculator, the dpdata driver, refusals in words."""

import copy
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import deepmd
import numpy as np
import pytest
from deepmd import model_file
from deepmd.errors import DeepmdError, InputError, ModelError
from reference.dp_numpy import Judge
from reference.tiny_models import Options, make_frames, make_tree

pytest.importorskip("deepmd._core", reason="the compiled core is not built")
ase = pytest.importorskip("ase")

from deepmd.calculator import DP, voigt_stress  # noqa: E402
from deepmd.exchange import write_tree  # noqa: E402
from deepmd.freeze import freeze_model  # noqa: E402
from deepmd.infer import DeepEval, DeepPot, DeepPotential  # noqa: E402
from deepmd.nn.model import deserialize  # noqa: E402

PARAMETERS = Options(n_fparam=2, n_aparam=1, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, options in (("plain", Options()), ("parameters", PARAMETERS)):
        freeze_model(deserialize(make_tree(options)), folder / f"{name}.pth")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return DeepPot(folder / "plain.pth")


@pytest.fixture(scope="module")
def judge():
    return Judge(make_tree())


def two_frames():
    frame = make_frames()["skewed"]
    positions = np.stack([frame.positions, frame.positions + 0.01 * np.sin(frame.positions)])
    return positions, np.stack([frame.cell, frame.cell * 1.01]), frame.types


def test_eval_returns_three_or_five_arrays(model, judge):
    positions, cells, types = two_frames()
    results = model.eval(positions.reshape(2, -1), cells.reshape(2, 9), types, atomic=True)
    assert [r.shape for r in results] == [(2, 1), (2, 27, 3), (2, 9), (2, 27, 1), (2, 27, 9)]
    three = model.eval(positions, cells, list(types))
    assert len(three) == 3
    for ours, others in zip(three, results, strict=False):
        np.testing.assert_array_equal(ours, others)
    expected = [judge.evaluate(p, types, c) for p, c in zip(positions, cells, strict=True)]
    for array, key in zip(results, ("energy", "forces", "virial", "atom_energy", "atom_virial"), strict=True):
        np.testing.assert_allclose(array.ravel(), np.concatenate([np.ravel(e[key]) for e in expected]), atol=1e-10)


def test_flat_arrays_open_boundaries_and_single_frames(model, judge):
    frame = make_frames()["molecule"]
    energy, force, virial = model.eval(frame.positions.ravel(), None, frame.types)
    expected = judge.evaluate(frame.positions, frame.types)
    assert energy.shape == (1, 1) and energy[0, 0] == pytest.approx(expected["energy"], abs=1e-10)
    np.testing.assert_allclose(force[0], expected["forces"], atol=1e-10)
    np.testing.assert_allclose(virial[0], expected["virial"].ravel(), atol=1e-10)


def test_mixed_types_and_padding_atoms(model):
    positions, cells, types = two_frames()
    other = types.copy()
    other[[0, 5]] = 1 - other[[0, 5]]
    mixed = np.stack([types, other])
    energy, force, _ = model.eval(positions, cells, mixed, mixed_type=True)
    for k in range(2):
        alone = model.eval(positions[k], cells[k], mixed[k])
        assert energy[k] == alone[0][0]
        np.testing.assert_array_equal(force[k], alone[1][0])
    with pytest.raises(InputError, match="mixed_type"):
        model.eval(positions, cells, mixed)
    padded = np.concatenate([types, [-1, -1]])[None]
    far = np.concatenate([positions[0], [[0.0, 0, 0], [0.0, 0, 0]]])
    energy, force, _, atom_energy, _ = model.eval(far, cells[0], padded, mixed_type=True, atomic=True)
    assert energy[0] == model.eval(positions[0], cells[0], types)[0][0]
    assert (force[0, -2:] == 0).all() and (atom_energy[0, -2:] == 0).all()


def test_mixed_periodicity(model, judge):
    for name in ("slab", "wire"):
        frame = make_frames()[name]
        force = model.eval(frame.positions, frame.cell, frame.types, pbc=frame.pbc)[1][0]
        np.testing.assert_allclose(force, judge.evaluate(**frame.as_input())["forces"], atol=1e-10)


def test_parameters_in_all_their_shapes(folder):
    model, judge = DeepPot(folder / "parameters.pth"), Judge(make_tree(PARAMETERS))
    positions, cells, types = two_frames()
    rng = np.random.default_rng(1)
    fparam, aparam = rng.normal(size=(2, 2)), rng.normal(size=(2, 27, 1))
    energy = model.eval(positions, cells, types, fparam=fparam.ravel(), aparam=aparam.reshape(2, -1))[0]
    for k in range(2):
        expected = judge.evaluate(positions[k], types, cells[k], None, fparam[k], aparam[k])["energy"]
        assert energy[k, 0] == pytest.approx(expected, abs=1e-10)
    same = model.eval(positions, cells, types, fparam=fparam[0], aparam=aparam[0])[0]
    assert same[0] == energy[0]
    constant = model.eval(positions, cells, types, fparam=fparam[0], aparam=[0.3])[0]
    full = model.eval(positions, cells, types, fparam=fparam[0], aparam=np.full((2, 27), 0.3))[0]
    np.testing.assert_array_equal(constant, full)
    for bad, words in (({"fparam": [1.0]}, "fparam has 1 numbers"), ({}, "needs fparam"),
                       ({"fparam": [1.0, 2.0]}, "needs aparam"),
                       ({"fparam": [1.0, 2.0], "aparam": np.zeros(5)}, "aparam has 5 numbers")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            model.eval(positions, cells, types, **bad)


def test_wrong_inputs_are_refused_in_words(model):
    positions, cells, types = two_frames()
    for arguments, words in (
        ((positions[:, :5], cells, types), "coords has 30 numbers"),
        ((positions, cells[:, :2], types), "cells has 12 numbers"),
        ((positions, cells, types + 1), "atom_types holds 2"),
        ((positions, cells, types.astype(float)), "expected integers"),
    ):
        with pytest.raises(InputError, match=words):
            model.eval(*arguments)
    with pytest.raises(InputError, match="fparam was given"):
        model.eval(positions, cells, types, fparam=[1.0])
    with pytest.raises(InputError, match="spin was given"):
        model.eval(positions, cells, types, spin=np.zeros(3))
    with pytest.raises(TypeError, match="spinn"):
        model.eval(positions, cells, types, spinn=None)


def test_bad_geometry_is_refused_by_the_core(model):
    frame = make_frames()["molecule"]
    for change in (np.nan, frame.positions[1, 0]):
        positions = frame.positions.copy()
        positions[0] = positions[1] if np.isfinite(change) else change
        with pytest.raises(DeepmdError):
            model.eval(positions, None, frame.types)


def test_questions(model, folder):
    assert model.get_rcut() == 4.0 and model.get_ntypes() == 2 and model.get_type_map() == ["O", "H"]
    assert model.get_dim_fparam() == 0 and model.get_dim_aparam() == 0 and model.get_sel_type() == []
    assert DeepPot(folder / "parameters.pth").get_dim_fparam() == 2
    assert not (model.has_spin or model.has_efield or model.has_hessian) and model.get_ntypes_spin() == 0
    assert model.get_model_def_script()["descriptor"]["type"] == "se_e2_a" and model.get_sel() == [20, 30]
    size = model.get_model_size()
    assert size["total"] == size["descriptor"] + size["fitting-net"] > 0
    assert model.get_observed_types() == {"type_num": 2, "observed_type": ["O", "H"]}
    assert model.serialize()["model"]["type_map"] == ["O", "H"]


def test_what_other_tools_look_at(folder):
    assert "auto_batch_size" in DeepPot.__init__.__code__.co_varnames
    with pytest.raises(ModuleNotFoundError):
        import deepmd.DeepPot  # noqa: F401
    for cls in (DeepEval, DeepPotential, DeepPot):
        assert isinstance(cls(str(folder / "plain.pth"), auto_batch_size=False), DeepPot)
    assert isinstance(DeepPot(folder / "plain"), DeepPot)  # the suffix may be left out


def test_descriptor_has_one_row_per_atom(model, judge):
    frame = make_frames()["skewed"]
    rows = model.eval_descriptor(frame.positions, frame.cell, frame.types)
    assert rows.shape == (1, 27, 8 * 3)
    from reference.dp_numpy import neighbors

    around = neighbors(frame.positions, frame.cell, None, judge.rcut)[3]
    t, _ = judge.descriptor.matrix(int(frame.types[3]), [(int(frame.types[j]), v) for j, v in around])
    np.testing.assert_allclose(rows[0, 3], (t @ t[:3].T).ravel(), atol=1e-12)


def test_trees_are_evaluated_through_a_temporary_freeze(folder, judge):
    write_tree(folder / "model.dp", make_tree())
    frame = make_frames()["molecule"]
    energy = DeepPot(folder / "model.dp").eval(frame.positions, None, frame.types)[0][0, 0]
    assert energy == pytest.approx(judge.evaluate(frame.positions, frame.types)["energy"], abs=1e-10)


def test_names_of_older_manuals_find_the_model(folder, tmp_path, model):
    shutil.copy(folder / "plain.pth", tmp_path / "graph.pth")
    name, expected = tmp_path / "graph.pb", model.get_rcut()
    assert DeepPot(name).get_rcut() == expected  # only graph.pth is there
    model_file.answer_to(name, tmp_path / "graph.pth")
    assert name.is_symlink() and DeepEval(name).get_rcut() == deepmd.DeepPotential(str(name)).get_rcut() == expected
    name.unlink()
    name.write_bytes(b"\n\x83\x01\n\x0fo_wfc\x12\x00")
    model_file.answer_to(name, tmp_path / "graph.pth")
    assert name.read_bytes().startswith(b"\n\x83")
    with pytest.raises(ModelError, match="TensorFlow graph"):
        DeepPot(name)


def test_checkpoints_are_evaluated_through_a_temporary_freeze(folder):
    import json

    from deepmd.nn.model import build
    from deepmd.train import checkpoint

    section = make_tree()["model_def_script"]
    model = build(section)
    payload = {"step": 7, "model": model.state_dict(), "model_section": json.dumps(section), "input": None}
    path = checkpoint.save(folder / "model.ckpt", payload, keep=1)
    frame = make_frames()["molecule"]
    energy = DeepPot(path).eval(frame.positions, None, frame.types)[0][0, 0]
    expected = Judge(model.serialize()).evaluate(frame.positions, frame.types)["energy"]
    assert energy == pytest.approx(expected, abs=1e-9)
    with pytest.raises(ModelError, match="head 'water'"):
        DeepPot(path, head="water")


def test_files_that_are_no_model_are_refused(folder):
    (folder / "text.pth").write_text("hello")
    for name, words in (("none.pth", "does not exist"), ("text.pth", "frozen model|format|dp freeze")):
        with pytest.raises(ModelError, match=words):
            DeepPot(folder / name)
    with pytest.raises(ModelError, match="branch"):
        DeepPot(folder / "plain.pth", head="water")


def test_copies_and_threads_agree(model):
    positions, cells, types = two_frames()
    expected = model.eval(positions, cells, types)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(twin.eval(positions, cells, types)[1], expected[1])
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: model.eval(positions, cells, types), range(12)):
            np.testing.assert_array_equal(result[1], expected[1])


# ------------------------------------------------------------------------------------------------------------- ASE


def atoms_of(frame, names=("O", "H")):
    pbc = frame.pbc if frame.pbc is not None else frame.cell is not None
    return ase.Atoms([names[t] for t in frame.types], frame.positions, cell=frame.cell, pbc=pbc)


@pytest.mark.parametrize("shape", ["bulk", "skewed", "smaller than the cutoff", "slab", "wire", "molecule", "one atom"])
def test_calculator_agrees_with_the_judge(model, judge, shape):
    frame = make_frames()[shape]
    atoms = atoms_of(frame)
    atoms.calc = DP(model)
    expected = judge.evaluate(**frame.as_input())
    assert atoms.get_potential_energy() == pytest.approx(expected["energy"], abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), expected["forces"], atol=1e-9)
    np.testing.assert_allclose(atoms.get_potential_energies(), expected["atom_energy"], atol=1e-9)
    if frame.cell is not None:
        symmetric = -0.5 * (expected["virial"] + expected["virial"].T) / atoms.get_volume()
        np.testing.assert_allclose(atoms.get_stress(voigt=False), symmetric, atol=1e-10)


def test_voigt_order():
    virial = np.arange(9.0).reshape(3, 3)
    full = -0.5 * (virial + virial.T) / 2.0
    order = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
    np.testing.assert_array_equal(voigt_stress(virial, 2.0), [full[component] for component in order])


def test_stress_is_the_strain_derivative_that_ase_computes(model):
    numerical = pytest.importorskip("ase.calculators.fd")
    atoms = atoms_of(make_frames()["smaller than the cutoff"])
    atoms.calc = DP(model)
    np.testing.assert_allclose(atoms.get_stress(), numerical.calculate_numerical_stress(atoms, eps=1e-5), atol=1e-6)


def test_stress_without_a_cell_is_not_implemented(model):
    from ase.calculators.calculator import PropertyNotImplementedError

    atoms = atoms_of(make_frames()["molecule"])
    atoms.calc = DP(model)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    atoms.get_forces()


def test_axes_without_a_cell_vector(model, judge):
    frame = make_frames()["slab"]
    atoms = atoms_of(frame)
    atoms.cell[2] = 0.0
    atoms.calc = DP(model)
    np.testing.assert_allclose(atoms.get_forces(), judge.evaluate(**frame.as_input())["forces"], atol=1e-9)


def test_a_periodic_axis_without_a_vector_is_refused_and_left_handed_cells_are_turned(model):
    atoms = atoms_of(make_frames()["molecule"])
    atoms.calc = DP(model)
    atoms.pbc = True
    with pytest.raises(InputError, match="periodic along a, b, c"):
        atoms.get_potential_energy()
    atoms = atoms_of(make_frames()["skewed"])
    atoms.calc = DP(model)
    forces, stress = atoms.get_forces(), atoms.get_stress()
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-10)
    np.testing.assert_allclose(atoms.get_stress(), stress, atol=1e-10)


def test_a_moving_trajectory_stays_right_with_the_kept_list(model, judge):
    frame = make_frames()["skewed"]
    atoms = atoms_of(frame)
    atoms.calc = DP(model, skin=0.6)
    rng = np.random.default_rng(0)
    velocity = rng.normal(0.0, 0.06, frame.positions.shape)
    for step in range(8):
        atoms.positions += velocity
        if step == 4:
            atoms.set_cell(frame.cell * 1.05)
        if step == 6:
            atoms.pbc = (True, True, False)
        force = atoms.get_forces()
        expected = judge.evaluate(atoms.positions, frame.types, np.asarray(atoms.cell), tuple(atoms.pbc))["forces"]
        np.testing.assert_allclose(force, expected, atol=1e-9, err_msg=f"step {step}")
    del atoms[3]
    types = np.delete(frame.types, 3)
    expected = judge.evaluate(atoms.positions, types, np.asarray(atoms.cell), tuple(atoms.pbc))["forces"]
    np.testing.assert_allclose(atoms.get_forces(), expected, atol=1e-9)


def test_type_dict_and_unknown_elements(model):
    frame = make_frames()["molecule"]
    atoms = atoms_of(frame)
    atoms.calc = DP(model)
    energy = atoms.get_potential_energy()
    atoms = atoms_of(frame, names=("S", "He"))
    atoms.calc = DP(model)
    with pytest.raises(InputError, match="He, S"):
        atoms.get_potential_energy()
    atoms.calc = DP(model, type_dict={"S": 0, "He": 1})
    assert atoms.get_potential_energy() == energy


def test_parameters_come_from_info(folder):
    frame = make_frames()["molecule"]
    atoms = atoms_of(frame)
    atoms.calc = DP(folder / "parameters.pth")
    with pytest.raises(InputError, match=r"atoms.info\['fparam'\]"):
        atoms.get_potential_energy()
    aparam = np.linspace(0, 1, len(atoms))
    atoms.info = {"fparam": [0.2, 0.4], "aparam": aparam}
    expected = Judge(make_tree(PARAMETERS)).evaluate(frame.positions, frame.types, None, None, [0.2, 0.4], aparam)
    assert atoms.get_potential_energy() == pytest.approx(expected["energy"], abs=1e-10)
    aparam[0] = 3.0  # in the place of the array that the results above were computed with
    changed = Judge(make_tree(PARAMETERS)).evaluate(frame.positions, frame.types, None, None, [0.2, 0.4], aparam)
    assert abs(changed["energy"] - expected["energy"]) > 1e-6
    assert atoms.get_potential_energy() == pytest.approx(changed["energy"], abs=1e-10)


def test_molecular_dynamics_conserves_energy(model):
    from ase import units
    from ase.md.verlet import VelocityVerlet

    atoms = atoms_of(make_frames()["molecule"])
    atoms.set_masses([40.0] * len(atoms))
    atoms.calc = DP(model)
    totals = []
    dynamics = VelocityVerlet(atoms, 0.05 * units.fs)
    dynamics.attach(lambda: totals.append(atoms.get_total_energy()))
    dynamics.run(20)
    kinetic = atoms.get_kinetic_energy()
    assert kinetic > 0 and np.ptp(totals) < 1e-3 * kinetic


# ---------------------------------------------------------------------------------------------------------- dpdata


def test_dpdata_driver_labels_a_system(folder, model):
    dpdata = pytest.importorskip("dpdata")
    from deepmd.dpdata_driver import DPDriver

    positions, cells, types = two_frames()
    data = {
        "atom_names": ["H", "O"], "atom_numbs": [int((types == 1).sum()), int((types == 0).sum())],
        "atom_types": 1 - types, "orig": np.zeros(3), "coords": positions, "cells": cells,
    }  # fmt: skip
    energy, force, virial = model.eval(positions, cells, types)
    system = dpdata.System(data={**data, "nopbc": False})
    for driver in (DPDriver(str(folder / "plain.pth")), DPDriver(model)):
        labelled = system.predict(driver=driver)
        np.testing.assert_allclose(labelled["energies"], energy[:, 0])
        np.testing.assert_allclose(labelled["forces"], force)
        np.testing.assert_allclose(labelled["virials"], virial.reshape(2, 3, 3))
    from dpdata.plugins.deepmd import DPDriver as Upstream  # dpdata's own driver, on our DeepPot

    by_their_driver = Upstream(model).label(dict(system.data))
    np.testing.assert_allclose(by_their_driver["forces"], force)
