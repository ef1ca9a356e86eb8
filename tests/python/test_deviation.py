"""Model deviation: the formulas on constructed numbers, the layout of the file, the command on data."""

import argparse

import numpy as np
import pytest
from deepmd import deviation
from deepmd.deviation import Labels, Options, calc_model_devi, deviation_columns
from deepmd.errors import InputError
from reference.tiny_models import Options as ModelOptions
from reference.tiny_models import make_frames, make_tree


class Toy:
    """A model that answers with given arrays."""

    def __init__(self, energy, force, virial, type_map=("O", "H")):
        self.answer = (energy, force, virial)
        self.type_map = list(type_map)

    def get_type_map(self):
        return self.type_map

    def eval(self, coord, box, atype, **kwargs):
        return self.answer


@pytest.fixture
def ensemble():
    rng = np.random.default_rng(0)
    return Labels(rng.normal(size=(4, 3)), rng.normal(size=(4, 3, 5, 3)), rng.normal(size=(4, 3, 9)))


def toys(labels, n_models=4):
    return [Toy(labels.energy[k][:, None], labels.force[k], labels.virial[k]) for k in range(n_models)]


def loops(labels, reference=None):
    """The definition with plain loops: [n_frames, 7] and the atoms' deviations [n_frames, n_atoms]."""
    n_models, n_frames, n_atoms, _ = labels.force.shape
    table, atoms = np.zeros((n_frames, 7)), np.zeros((n_frames, n_atoms))
    for m in range(n_frames):
        for i in range(n_atoms):
            mean = sum(labels.force[k, m, i] for k in range(n_models)) / n_models
            center = mean if reference is None else reference.force[m, i]
            squares = [np.sum((labels.force[k, m, i] - center) ** 2) for k in range(n_models)]
            atoms[m, i] = np.sqrt(sum(squares) / n_models)
        components = []
        for ab in range(9):
            values = [labels.virial[k, m, ab] / n_atoms for k in range(n_models)]
            center = sum(values) / n_models if reference is None else reference.virial[m, ab] / n_atoms
            components.append(np.sqrt(sum((v - center) ** 2 for v in values) / n_models))
        values = [labels.energy[k, m] / n_atoms for k in range(n_models)]
        center = sum(values) / n_models if reference is None else reference.energy[m] / n_atoms
        energy = np.sqrt(sum((v - center) ** 2 for v in values) / n_models)
        rms = np.sqrt(sum(c**2 for c in components) / 9)
        spread = (max(atoms[m]), min(atoms[m]), sum(atoms[m]) / n_atoms)
        table[m] = [max(components), min(components), rms, *spread, energy]
    return table, atoms


def test_columns_follow_the_definition(ensemble):
    table, atoms = loops(ensemble)
    np.testing.assert_allclose(deviation_columns(ensemble), table, rtol=1e-12)
    np.testing.assert_allclose(deviation_columns(ensemble, None, Options(atomic=True))[:, 7:], atoms, rtol=1e-12)


def test_real_error_measures_the_distance_from_the_labels(ensemble):
    rng = np.random.default_rng(1)
    reference = Labels(rng.normal(size=3), rng.normal(size=(3, 5, 3)), rng.normal(size=(3, 9)))
    np.testing.assert_allclose(deviation_columns(ensemble, reference), loops(ensemble, reference)[0], rtol=1e-12)
    data = {"energy": reference.energy, "force": reference.force.reshape(3, -1), "virial": reference.virial}
    table = calc_model_devi(None, None, None, toys(ensemble), real_data=data)
    np.testing.assert_allclose(table[:, 1:], loops(ensemble, reference)[0], rtol=1e-12)


def test_relative_forms(ensemble):
    _, atoms = loops(ensemble)
    norms = np.linalg.norm(ensemble.force.mean(axis=0), axis=-1)
    columns = deviation_columns(ensemble, None, Options(atomic=True, relative=0.5, relative_v=0.2))
    np.testing.assert_allclose(columns[:, 7:], atoms / (norms + 0.5), rtol=1e-12)
    np.testing.assert_allclose(columns[:, 3], (atoms / (norms + 0.5)).max(axis=1), rtol=1e-12)
    plain = deviation_columns(ensemble)
    virial_norm = np.linalg.norm(ensemble.virial.mean(axis=0) / 5, axis=-1)
    np.testing.assert_allclose(columns[:, :3], plain[:, :3] / (virial_norm + 0.2)[:, None], rtol=1e-12)


def test_equal_models_do_not_deviate(ensemble):
    same = Labels(*(np.repeat(array[:1], 3, axis=0) for array in (ensemble.energy, ensemble.force, ensemble.virial)))
    np.testing.assert_allclose(deviation_columns(same), 0.0, atol=1e-15)


def test_file_layout(ensemble, tmp_path):
    path = tmp_path / "model_devi.out"
    table = calc_model_devi(None, None, None, toys(ensemble), fname=str(path), frequency=10, atomic=True)
    assert table.shape == (3, 8 + 5) and list(table[:, 0]) == [0, 10, 20]
    first, *rows = path.read_text().splitlines()
    names = "max_devi_v min_devi_v avg_devi_v max_devi_f min_devi_f avg_devi_f devi_e".split()
    assert first == "# " + "step".ljust(10) + "".join(name.ljust(19) for name in names) + "atm_devi_f(5)".ljust(19)
    assert rows[1] == f"{10:12d}" + "".join(f"{value:19.6e}" for value in table[1, 1:])
    np.testing.assert_allclose(np.loadtxt(path), table, rtol=1e-6)
    deviation.write_table(str(path), table[:, :8], "water/set")
    lines = path.read_text().splitlines()
    assert lines[4] == "# water/set" and lines[5].startswith("# step      max_devi_v") and len(lines) == 9


def test_type_maps_must_agree(ensemble):
    models = toys(ensemble, 2)
    models[1].type_map = ["H", "O"]
    with pytest.raises(InputError, match="model 1 has H O"):
        calc_model_devi(None, None, None, models)


def test_open_boundary_keyword_raises_type_error(ensemble):
    with pytest.raises(TypeError):  # callers try nopbc and fall back on box=None
        calc_model_devi(None, None, None, toys(ensemble), nopbc=True)


# ------------------------------------------------------------------------------------------------- with real models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    pytest.importorskip("deepmd._core", reason="the compiled core is not built")
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import deserialize

    folder = tmp_path_factory.mktemp("models")
    for k in range(3):
        freeze_model(deserialize(make_tree(ModelOptions(seed=k))), folder / f"graph.00{k}.pth")
    return folder


def write_data(folder, frame, n_frames, labels=None):
    (folder / "set.000").mkdir(parents=True)
    (folder / "type_map.raw").write_text("O\nH\n")
    np.savetxt(folder / "type.raw", frame.types, fmt="%d")
    positions = np.stack([frame.positions * (1 + 0.01 * k) for k in range(n_frames)])
    np.save(folder / "set.000/coord.npy", positions.reshape(n_frames, -1))
    if frame.cell is None:
        (folder / "nopbc").touch()
    else:
        np.save(folder / "set.000/box.npy", np.repeat(frame.cell.reshape(1, 9), n_frames, axis=0))
    for name, array in (labels or {}).items():
        np.save(folder / f"set.000/{name}.npy", array.reshape(n_frames, -1))
    return positions


def arguments(models, system, output, **other):
    names = [str(models / f"graph.00{k}") for k in range(3)]
    defaults = {"frequency": 1, "real_error": False, "atomic": False, "relative": None, "relative_v": None}
    return argparse.Namespace(models=names, system=str(system), output=str(output), **{**defaults, **other})


def test_command_writes_one_block_a_system(models, tmp_path):
    from deepmd.infer import DeepPot

    frames = make_frames()
    output = tmp_path / "model_devi.out"
    open_positions = write_data(tmp_path / "data/open", frames["molecule"], 2)
    positions = write_data(tmp_path / "data/periodic", frames["skewed"], 3)
    deviation.main(arguments(models, tmp_path / "data", output, frequency=5))
    potentials = [DeepPot(models / f"graph.00{k}.pth") for k in range(3)]
    expected = [calc_model_devi(open_positions, None, frames["molecule"].types, potentials, frequency=5)]
    cells = np.repeat(frames["skewed"].cell[None], 3, axis=0)
    expected.append(calc_model_devi(positions, cells, frames["skewed"].types, potentials, frequency=5))
    np.testing.assert_allclose(np.loadtxt(output), np.concatenate(expected), rtol=1e-6)
    comments = [line for line in output.read_text().splitlines() if line.startswith("#")]
    assert comments[0] == f"# {tmp_path / 'data/open'}" and comments[2] == f"# {tmp_path / 'data/periodic'}"


def test_command_with_real_error(models, tmp_path):
    frame = make_frames()["molecule"]
    n_atoms = len(frame.types)
    labels = {"energy": np.array([-20.0, -21.0]), "force": np.zeros((2, n_atoms, 3))}
    write_data(tmp_path / "open", frame, 2, labels)
    output = tmp_path / "model_devi.out"
    deviation.main(arguments(models, tmp_path, output, real_error=True, atomic=True))
    table = np.loadtxt(output)
    assert table.shape == (2, 8 + n_atoms) and np.isnan(table[:, 1:4]).all() and np.isfinite(table[:, 4:]).all()
    write_data(tmp_path / "x/periodic", make_frames()["skewed"], 1, {"energy": np.zeros(1)})
    with pytest.raises(InputError, match="lacks force, virial"):
        deviation.main(arguments(models, tmp_path / "x", output, real_error=True))


def test_one_model_is_no_ensemble(models, tmp_path):
    args = arguments(models, tmp_path, tmp_path / "out")
    args.models = args.models[:1]
    with pytest.raises(InputError, match="at least two"):
        deviation.main(args)
