"""``dp test``: documented lines, weights of the averages, detail files, missing labels, figures."""

import argparse
import json
import logging

import numpy as np
import pytest
from deepmd import eval_desc, plots
from deepmd import test as dp_test
from deepmd.data import load_systems
from deepmd.errors import DeepmdError, InputError
from deepmd.measure.pairs import detail_path
from reference.tiny_models import jittered, make_tree

pytest.importorskip("deepmd._core", reason="the compiled core is not built")

from deepmd.freeze import freeze_model  # noqa: E402
from deepmd.infer import DeepPot  # noqa: E402
from deepmd.nn.model import deserialize  # noqa: E402

RULE = "# ---------------output of dp test--------------- "


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "graph.pth"
    freeze_model(deserialize(make_tree()), path)
    return path


@pytest.fixture(scope="module")
def model(model_file):
    return DeepPot(model_file)


LABELS = ("energy", "force", "virial")


def write_system(folder, model, n_frames, shifts, labels=LABELS, periodic=True, counts=(2, 2, 2)):
    """Data whose labels differ from the model's predictions by the given constants; type map in another order."""
    rng = np.random.default_rng(len(str(folder)) + n_frames)
    frame = jittered(np.diag([6.0, 6.5, 7.0]), counts, 2, rng)
    n_atoms = len(frame.types)
    positions = frame.positions + rng.normal(0, 0.05, (n_frames, n_atoms, 3))
    cells = np.repeat(frame.cell[None], n_frames, axis=0)
    results = model.eval(positions, cells if periodic else None, frame.types, atomic=True)
    (folder / "set.000").mkdir(parents=True)
    (folder / "type_map.raw").write_text("H\nO\n")
    np.savetxt(folder / "type.raw", 1 - frame.types, fmt="%d")
    arrays = dict(zip(("energy", "force", "virial", "atom_ener"), results, strict=False))
    np.save(folder / "set.000" / "coord.npy", positions.reshape(n_frames, -1))
    if periodic:
        np.save(folder / "set.000" / "box.npy", cells.reshape(n_frames, 9))
    else:
        (folder / "nopbc").touch()
    for name in labels:
        np.save(folder / "set.000" / f"{name}.npy", arrays[name].reshape(n_frames, -1) + shifts.get(name, 0.0))
    return n_atoms


def options(model_file, system, **other):
    return argparse.Namespace(model=str(model_file), system=str(system), **other)


def run(caplog, args):
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="deepmd.test"):
        errors = dp_test.main(args)
    return errors, [record.getMessage() for record in caplog.records if record.name == "deepmd.test"]


def test_lines_and_weights(tmp_path, model, model_file, caplog):
    n_a = write_system(tmp_path / "a", model, 3, {"energy": 0.2, "force": 0.1, "virial": 0.5})
    n_b = write_system(tmp_path / "b", model, 5, {"energy": -0.4, "force": 0.3, "virial": 1.0}, counts=(3, 2, 2))
    errors, lines = run(caplog, options(model_file, tmp_path))
    assert lines[:3] == [RULE, f"# testing system : {tmp_path / 'a'}", "# number of test data : 3 "]
    assert lines[3] == f"Energy MAE         : {0.2:e} eV" and lines[4] == f"Energy RMSE        : {0.2:e} eV"
    assert lines[5] == f"Energy MAE/Natoms  : {0.2 / n_a:e} eV"
    assert lines[7] == f"Force  MAE         : {0.1:e} eV/Å" and lines[8].startswith("Force  RMSE        : ")
    assert lines[9] == f"Virial MAE         : {0.5:e} eV" and lines[12].startswith("Virial RMSE/Natoms : ")
    assert lines[13] == f"Stress MAE         : {0.5 / (6.0 * 6.5 * 7.0):e} eV/Å^3"
    assert lines[15].startswith("Force  max error")
    assert lines.count("# ----------------------------------------------- ") == 3
    start = lines.index("# ----------weighted average of errors----------- ")
    assert lines[start + 1] == "# number of systems : 2"
    assert errors["energy"][0] == pytest.approx((3 * 0.2 + 5 * 0.4) / 8)
    assert errors["energy"][1] == pytest.approx(np.sqrt((3 * 0.2**2 + 5 * 0.4**2) / 8))
    weights = np.array([3 * n_a, 5 * n_b])
    assert errors["force"][0] == pytest.approx(np.average([0.1, 0.3], weights=weights))
    assert errors["force"][1] == pytest.approx(np.sqrt(np.average([0.1**2, 0.3**2], weights=weights)))
    assert errors["virial_per_atom"][0] == pytest.approx((3 * 0.5 / n_a + 5 * 1.0 / n_b) / 8)
    assert lines[start + 2] == f"Energy MAE         : {errors['energy'][0]:e} eV"


def test_missing_labels_are_not_counted_as_zeros(tmp_path, model, model_file, caplog):
    write_system(tmp_path / "a", model, 2, {"energy": 0.2}, labels=("energy",))
    write_system(tmp_path / "b", model, 2, {}, labels=("force", "virial"), periodic=False)
    errors, lines = run(caplog, options(model_file, tmp_path))
    assert set(errors) == {"energy", "energy_per_atom", "force"}
    assert not any(line.startswith(("Virial", "Stress")) for line in lines)
    assert errors["energy"][0] == pytest.approx(0.2) and errors["force"][1] < 1e-12
    write_system(tmp_path / "c" / "d", model, 2, {}, labels=())
    with pytest.raises(DeepmdError, match="no label"):
        dp_test.main(options(model_file, tmp_path / "c"))


def test_weighted_forces(tmp_path, model, model_file):
    n_atoms = write_system(tmp_path / "a", model, 1, {})
    force = np.load(tmp_path / "a/set.000/force.npy")
    force[0, :3] += 0.3
    np.save(tmp_path / "a/set.000/force.npy", force)
    weight = np.zeros((1, n_atoms))
    weight[0, :2] = 1.0
    np.save(tmp_path / "a/set.000/atom_pref.npy", weight)
    errors = dp_test.main(options(model_file, tmp_path))
    assert errors["force_weighted"] == pytest.approx((0.15, np.sqrt(0.5 * 0.09)))
    assert errors["force"][0] == pytest.approx(0.3 / n_atoms)


def test_atomic_energies(tmp_path, model, model_file, caplog):
    write_system(tmp_path / "a", model, 2, {"atom_ener": 0.25}, labels=("energy", "atom_ener"))
    errors, lines = run(caplog, options(model_file, tmp_path, atomic=True))
    assert errors["atom_energy"][0] == pytest.approx(0.25)
    assert f"Atomic ener MAE    : {0.25:e} eV" in lines
    assert "atom_energy" not in dp_test.main(options(model_file, tmp_path))


def test_detail_files(tmp_path, model, model_file, caplog):
    n_a = write_system(tmp_path / "a", model, 2, {"energy": 1.0})
    n_b = write_system(tmp_path / "b", model, 1, {"energy": 1.0}, counts=(3, 2, 2))
    prefix = tmp_path / "detail.out"
    (tmp_path / "detail.h.out").write_text("of an earlier test")
    for _ in range(2):  # a second run does not append to the first
        dp_test.main(options(model_file, tmp_path, detail_file=str(prefix)))
    e = (tmp_path / "detail.e.out").read_text().splitlines()
    assert e[0] == f"# {tmp_path / 'a'}: data_e pred_e" and len(e) == 4
    table = np.loadtxt(tmp_path / "detail.e.out")
    np.testing.assert_allclose(table[:, 0] - table[:, 1], 1.0)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "detail.e_peratom.out")[:, 0], table[:, 0] / [n_a, n_a, n_b])
    assert np.loadtxt(tmp_path / "detail.f.out").shape == (2 * n_a + n_b, 6)
    assert np.loadtxt(tmp_path / "detail.v.out").shape == (3, 18)
    header = (tmp_path / "detail.v_peratom.out").read_text().splitlines()[0]
    assert header.startswith(f"# {tmp_path / 'a'}: data_vxx data_vxy data_vxz data_vyx") and header.endswith("pred_vzz")
    stress = np.loadtxt(tmp_path / "detail.s.out", encoding="utf-8")
    np.testing.assert_allclose(stress[0] * -(6 * 6.5 * 7), np.loadtxt(tmp_path / "detail.v.out")[0])
    assert not (tmp_path / "detail.h.out").exists()
    assert detail_path("water_0.5", ".e.out").name == "water_0.5.e.out"  # beside water_0.6
    assert "(eV/Å^3)" in (tmp_path / "detail.s.out").read_text(encoding="utf-8").splitlines()[0]


def test_choosing_frames():
    choose = dp_test.choose_frames
    assert list(choose(5, dp_test.Options())) == [0, 1, 2, 3, 4]
    assert list(choose(5, dp_test.Options(n_frames=2))) == [0, 1] and len(choose(5, dp_test.Options(n_frames=9))) == 5
    picked = choose(50, dp_test.Options(n_frames=10, shuffle=True, seed=3))
    assert len(set(picked)) == 10 and list(picked) != list(range(10))
    assert list(picked) == list(choose(50, dp_test.Options(n_frames=10, shuffle=True, seed=3)))


def test_ways_to_name_systems(tmp_path, model, model_file):
    write_system(tmp_path / "data/a", model, 2, {"energy": 0.2})
    write_system(tmp_path / "data/b", model, 2, {"energy": 0.4})
    (tmp_path / "list").write_text(f"{tmp_path}/data/b\n\n{tmp_path}/data/a\n")
    sections = {"training_data": {"systems": ["data/a"]}, "validation_data": {"systems": "data"}}
    (tmp_path / "input.json").write_text(json.dumps({"training": sections}))
    for other, expected in (
        ({"datafile": str(tmp_path / "list")}, 0.3),
        ({"train_data": str(tmp_path / "input.json")}, 0.2),
        ({"valid_data": str(tmp_path / "input.json")}, 0.3),
    ):
        assert dp_test.main(options(model_file, "nowhere", **other))["energy"][0] == pytest.approx(expected)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bare.json").write_text('{"training": {}}')
    for other, words in (({"datafile": str(tmp_path / "empty")}, "lists no system"),
                         ({"datafile": str(tmp_path / "none")}, "cannot read"),
                         ({"train_data": str(tmp_path / "bare.json")}, "training_data/systems")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            dp_test.main(options(model_file, "nowhere", **other))


def test_descriptors_are_written_for_each_system(tmp_path, model, model_file):
    n_a = write_system(tmp_path / "a" / "water", model, 2, {})
    write_system(tmp_path / "b" / "water", model, 1, {}, counts=(3, 2, 2))
    eval_desc.main(options(model_file, tmp_path, head=None, output=str(tmp_path / "d/e"), dtype="fp32"))
    assert sorted(path.name for path in (tmp_path / "d/e").iterdir()) == ["a_water.npy", "b_water.npy"]
    rows = np.load(tmp_path / "d/e/a_water.npy")
    (system, _) = load_systems(str(tmp_path), model.get_type_map())
    data = system.frames([1], ())
    expected = model.eval_descriptor(data["positions"], data["cell"], system.types)
    assert rows.dtype == np.float32 and rows.shape == (2, n_a, expected.shape[2])
    np.testing.assert_allclose(rows[1], expected[0], rtol=1e-5, atol=1e-6)


# --------------------------------------------------------------------------------------------------------- figures


def test_parity_plot_is_written(tmp_path, model, model_file):
    write_system(tmp_path / "a", model, 3, {"energy": 0.01, "force": 0.02})
    dp_test.main(options(model_file, tmp_path, plot=str(tmp_path / "figure.png")))
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    with pytest.raises(InputError, match="nothing to plot"):
        plots.parity({}, tmp_path / "none.png")


def test_learning_curve_plot_is_written(tmp_path):
    lines = ["# step    rmse_val rmse_trn rmse_e_val rmse_e_trn rmse_f_val rmse_f_trn   lr", "# another comment"]
    for step in (1, 100, 200):
        values = [1.0 / step, 0.9 / step, 1e-3, 2e-3, np.nan, 0.1]
        lines.append(f"{step:7d}" + "".join(f"   {v:11.2e}" for v in values) + f"   {1e-3:8.1e}")
    (tmp_path / "lcurve.out").write_text("\n".join(lines) + "\n")
    plots.main(argparse.Namespace(INPUT=str(tmp_path / "lcurve.out"), output=None))
    assert (tmp_path / "lcurve.png").stat().st_size > 10_000
    with pytest.raises(InputError, match="does not exist"):
        plots.learning_curve(tmp_path / "none", tmp_path / "x.png")
    (tmp_path / "bad").write_text("1 2 3\n")
    with pytest.raises(InputError, match="no learning curve"):
        plots.learning_curve(tmp_path / "bad", tmp_path / "x.png")
