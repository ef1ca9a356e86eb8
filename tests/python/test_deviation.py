"""Model deviation: the formulas on constructed numbers, the layout of the file, the command on data."""

import argparse

import numpy as np
import pytest
from deepmd import deviation
from deepmd.deviation import Labels, Options, calc_model_devi, deviation_columns, write_table
from deepmd.errors import EngineError, InputError
from reference.tiny_models import Options as ModelOptions
from reference.tiny_models import make_frames, make_tree


@pytest.fixture
def ensemble(compiled):
    rng = np.random.default_rng(0)
    return Labels(rng.normal(size=(4, 3)), rng.normal(size=(4, 3, 5, 3)), rng.normal(size=(4, 3, 9)))


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
    columns = deviation_columns(ensemble, reference, Options(atomic=True, relative=0.5, relative_v=0.2))
    atoms = loops(ensemble, reference)[1] / (np.linalg.norm(reference.force, axis=-1) + 0.5)
    np.testing.assert_allclose(columns[:, 7:], atoms, rtol=1e-12)
    columns = deviation_columns(ensemble, Labels(reference.energy, reference.force, None))
    assert np.isnan(columns[:, :3]).all()
    np.testing.assert_allclose(columns[:, 3:], loops(ensemble, reference)[0][:, 3:], rtol=1e-12)


def test_relative_forms(ensemble):
    _, atoms = loops(ensemble)
    norms = np.linalg.norm(ensemble.force.mean(axis=0), axis=-1)
    columns = deviation_columns(ensemble, None, Options(atomic=True, relative=0.5, relative_v=0.2))
    np.testing.assert_allclose(columns[:, 7:], atoms / (norms + 0.5), rtol=1e-12)
    np.testing.assert_allclose(columns[:, 3], (atoms / (norms + 0.5)).max(axis=1), rtol=1e-12)
    mean = ensemble.virial.mean(axis=0) / 5
    components = ensemble.virial.std(axis=0) / 5 / (np.abs(mean) + 0.2)
    rms = np.sqrt((components**2).mean(axis=1))
    expected = np.stack([components.max(axis=1), components.min(axis=1), rms], axis=1)
    np.testing.assert_allclose(columns[:, :3], expected, rtol=1e-12)


@pytest.mark.parametrize("n_models", [1, 2, 3, 7])
def test_equal_models_deviate_by_exactly_zero(ensemble, n_models):
    same = Labels(*(np.repeat(a[:1], n_models, axis=0) for a in (ensemble.energy, ensemble.force, ensemble.virial)))
    assert not deviation_columns(same, None, Options(atomic=True)).any()
    silent = Labels(same.energy, np.zeros_like(same.force), np.zeros_like(same.virial))
    assert not deviation_columns(silent, None, Options(atomic=True, relative=0.0, relative_v=0.0)).any()


def test_arrays_of_other_sizes_are_refused(compiled):
    with pytest.raises(ValueError, match="virials has 9 numbers, expected 18"):
        compiled.deviation(np.zeros((2, 4, 3)), np.zeros((3, 3)))


# ------------------------------------------------------------------------------------------------- with real models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    pytest.importorskip("deepmd._core", reason="the compiled core is not built")
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import deserialize

    folder = tmp_path_factory.mktemp("models")
    for k in range(3):
        freeze_model(deserialize(make_tree(ModelOptions(seed=k))), folder / f"graph.00{k}.pth")
    others = {
        "swapped": {"type_map": ["H", "O"]}, "carbon": {"type_map": ["O", "C"]}, "long": {"rcut": 4.5},
        "fparam": {"n_fparam": 1}, "parameters": {"n_fparam": 1, "n_aparam": 2, "default_fparam": [0.3]},
    }  # fmt: skip
    for name, options in others.items():
        freeze_model(deserialize(make_tree(ModelOptions(seed=5, **options))), folder / f"{name}.pth")
    return folder


@pytest.fixture(scope="module")
def potentials(models):
    """`potentials("swapped")` is the open model."""
    from deepmd.infer import DeepPot

    opened = {}
    return lambda name: opened.setdefault(name, DeepPot(models / f"{name}.pth"))


def columns_of(frame, names, potentials, flips=(), **options):
    """The seven columns and those of the atoms from single calls of each model; flips: those that call H 0 and O 1."""
    results = []
    for name in names:
        types = 1 - frame.types if name in flips else frame.types
        results.append(potentials(name).eval(frame.positions, frame.cell, types, **options))
    labels = Labels(*(np.stack([result[k] for result in results]) for k in range(3)))
    table, atoms = loops(Labels(labels.energy[:, :, 0], labels.force, labels.virial))
    return np.concatenate([table[0], atoms[0]])


GRAPHS = ("graph.000", "graph.001", "graph.002")


def test_file_layout(models, potentials, tmp_path):
    frame = make_frames()["molecule"]
    path, n = tmp_path / "model_devi.out", len(frame.types)
    coord = np.stack([frame.positions * (1 + 0.01 * k) for k in range(3)])
    ensemble = [potentials(name) for name in GRAPHS]
    table = calc_model_devi(coord, None, frame.types, ensemble, fname=str(path), frequency=10, atomic=True)
    write_table(tmp_path / "named.out", table, "wässer/水")
    assert (tmp_path / "named.out").read_text(encoding="utf-8").startswith("# wässer/水\n")
    assert table.shape == (3, 8 + n) and list(table[:, 0]) == [0, 10, 20]
    np.testing.assert_allclose(table[0, 1:], columns_of(frame, GRAPHS, potentials), rtol=1e-10)
    first, *rows = path.read_text().splitlines()
    names = "max_devi_v min_devi_v avg_devi_v max_devi_f min_devi_f avg_devi_f devi_e".split()
    labels = "".join(name.ljust(19) for name in names)
    assert first == "# " + "step".ljust(10) + labels + f"atm_devi_f({n})".ljust(19)
    assert rows[1] == f"{10:12d}" + "".join(f"{value:19.6e}" for value in table[1, 1:])
    np.testing.assert_allclose(np.loadtxt(path), table, rtol=1e-6)
    deviation.write_table(str(path), table[:, :8], "water/set")
    lines = path.read_text().splitlines()
    assert lines[4] == "# water/set" and lines[5].startswith("# step      max_devi_v") and len(lines) == 9


@pytest.mark.parametrize("name", ["skewed", "smaller than the cutoff", "molecule"])
def test_models_with_other_orders_of_elements_and_other_cutoffs_share_a_list(potentials, name):
    frame = make_frames()[name]
    members = ("graph.000", "swapped", "long")
    opened = [potentials(name) for name in members]
    table = calc_model_devi(frame.positions, frame.cell, frame.types, opened, atomic=True)
    expected = columns_of(frame, members, potentials, flips=("swapped",))
    np.testing.assert_allclose(table[0, 1:], expected, rtol=1e-9)


def test_models_that_do_not_fit_together_are_refused_in_words(potentials):
    frame = make_frames()["molecule"]

    def refuse(names, match):
        with pytest.raises(EngineError, match=match):
            calc_model_devi(frame.positions, None, frame.types, [potentials(name) for name in names])

    refuse(("graph.000", "carbon"), r"graph.000.pth and .*carbon.pth do not fit .* are O H and O C; train .* type_map")
    refuse(("graph.000", "fparam"), "take 0 and 1 fparam parameters; train .* numb_fparam")
    refuse(("fparam", "parameters"), "take 0 and 2 aparam parameters")
    with pytest.raises(InputError, match="list of models is empty"):
        calc_model_devi(frame.positions, None, frame.types, [])


def test_open_boundary_keyword_raises_type_error(potentials):
    with pytest.raises(TypeError):  # callers try nopbc and fall back on box=None
        calc_model_devi(np.zeros((1, 3)), None, [0], [potentials("graph.000")], nopbc=True)


def test_mixed_types_and_padding_atoms(potentials):
    frame = make_frames()["molecule"]
    ensemble = [potentials(name) for name in GRAPHS]
    n = len(frame.types)
    types = np.stack([np.append(frame.types, -1), np.append(1 - frame.types, -1)])
    coord = np.stack([np.vstack([frame.positions, [[9.0, 9.0, 9.0]]])] * 2)
    table = calc_model_devi(coord, None, types, ensemble, mixed_type=True, atomic=True)
    assert table.shape == (2, 8 + n + 1) and np.isnan(table[:, -1]).all()
    for row, kinds in zip(table, types[:, :-1], strict=True):
        alone = calc_model_devi(frame.positions, None, kinds, ensemble, atomic=True)[0]
        np.testing.assert_allclose(row[1:-1], alone[1:], rtol=1e-12)
    with pytest.raises(InputError, match="differs between frames"):
        calc_model_devi(coord, None, types, ensemble)


def test_parameters_reach_all_models(potentials):
    frame = make_frames()["skewed"]
    names, n = ("parameters", "parameters"), len(frame.types)
    ensemble = [potentials(name) for name in names]
    options = {"fparam": [0.7], "aparam": np.linspace(-1, 1, 2 * n).reshape(n, 2)}
    assert not calc_model_devi(frame.positions, frame.cell, frame.types, ensemble, **options)[:, 1:].any()
    energy = ensemble[0].eval(frame.positions, frame.cell, frame.types, **options)[0]
    real = {"energy": energy, "force": np.zeros(3 * n), "virial": np.zeros(9)}
    table = calc_model_devi(frame.positions, frame.cell, frame.types, ensemble, real_data=real, **options)
    assert abs(table[0, 7]) < 1e-12 and table[0, 4] > 0
    with pytest.raises(InputError, match="needs aparam"):
        calc_model_devi(frame.positions, frame.cell, frame.types, ensemble, fparam=[0.7])


def test_real_data_of_other_sizes_are_refused(potentials):
    frame = make_frames()["skewed"]
    ensemble, n = [potentials(name) for name in GRAPHS], len(frame.types)
    real = {"energy": np.zeros(1), "force": np.zeros((1, n, 3))}
    with pytest.raises(InputError, match="'virial' is absent, expected 9 numbers"):
        calc_model_devi(frame.positions, frame.cell, frame.types, ensemble, real_data=real)
    with pytest.raises(InputError, match="'force' has 3 numbers"):
        calc_model_devi(frame.positions, None, frame.types, ensemble, real_data={**real, "force": np.zeros(3)})
    table = calc_model_devi(frame.positions, None, frame.types, ensemble, real_data=real)
    assert np.isnan(table[0, 1:4]).all() and np.isfinite(table[0, 4:]).all()


def test_a_model_serves_several_ensembles_at_once(potentials):
    from concurrent.futures import ThreadPoolExecutor

    frame = make_frames()["skewed"]
    a, b, c = (potentials(name) for name in GRAPHS)

    def work(models):
        return calc_model_devi(frame.positions, frame.cell, frame.types, models)[0, 4]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, [[a, b, c], [c, b, a], [b, a, c], [a, b, b]] * 5))
    assert np.ptp(found[0::4]) == 0 and np.allclose(found[0::4], found[1::4], rtol=1e-12)


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
