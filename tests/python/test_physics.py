"""The physics checks of checks.py on the torch model and on the compiled core; test_judge.py has those of the judge."""

import checks
import numpy as np
import pytest
from reference.dp_numpy import Judge, neighbors
from reference.tiny_models import Frame, Options, make_frames, make_tree

MODELS = {
    "plain": Options(),
    "one-sided": Options(one_side=True, embedding_dt=True, activation="gelu", fitting_bias=True),
    "exclusions": Options(type_map=["A", "B", "C"], sel=[3, 8, 7], pair_exclude=[[0, 2]], descriptor_exclude=[[1, 1]]),
}
SHAPES = ("skewed", "smaller than the cutoff", "slab", "wire", "molecule", "one atom in a cell", "no neighbours")


@pytest.fixture(scope="module", params=list(MODELS))
def options(request):
    return MODELS[request.param]


@pytest.fixture(scope="module")
def tree(options):
    return make_tree(options)


def torch_of(tree, folder):
    from deepmd.nn.frames import evaluate, find_pairs
    from deepmd.nn.model import deserialize

    module = deserialize(tree).eval()

    def call(positions, types, cell, pbc):
        return evaluate(module, find_pairs(positions, cell, module.descriptor.rcut, pbc), types)

    return call


def core_of(tree, folder):
    from deepmd.core import Model
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import deserialize

    freeze_model(deserialize(tree), folder / "graph.pth")
    model = Model(str(folder / "graph.pth"))
    return lambda positions, types, cell, pbc: model.evaluate(positions, types, cell, pbc, atomic=True)


@pytest.fixture(scope="module", params=[torch_of, core_of], ids=["torch", "core"])
def evaluate(request, compiled, tree, tmp_path_factory):
    return request.param(tree, tmp_path_factory.mktemp("physics"))


@pytest.fixture
def frame(request, options):
    return make_frames(len(options.type_map), seed=11)[request.param]


@pytest.mark.parametrize("frame", SHAPES, indirect=True)
def test_symmetries(evaluate, frame):
    rng = np.random.default_rng(0)
    checks.check_parts_add_up(evaluate, frame)
    checks.check_translation(evaluate, frame)
    checks.check_rotation_and_inversion(evaluate, frame, rng)
    checks.check_permutation(evaluate, frame, rng)
    checks.check_wrapping(evaluate, frame, rng)
    checks.check_lattice_reduction(evaluate, frame)


@pytest.mark.parametrize("frame", ["smaller than the cutoff", "wire", "one atom in a cell"], indirect=True)
def test_replication(evaluate, frame):
    checks.check_replication(evaluate, frame)


@pytest.mark.parametrize("frame", ["smaller than the cutoff", "slab", "molecule", "one atom in a cell"], indirect=True)
def test_derivatives(evaluate, frame):
    checks.check_forces(evaluate, frame, atoms=2)
    checks.check_virial(evaluate, frame)


def test_cutoff_and_isolated_atoms(evaluate, options):
    n_types = len(options.type_map)
    checks.check_isolated_atoms(evaluate, n_types, options.rcut)
    checks.check_cutoff(evaluate, (0, 1), options.rcut)


def random_frame(seed):
    """A few atoms in a cell of 0.4 to 1.5 cutoffs, tilted by up to its length, periodic along any of its axes."""
    rng = np.random.default_rng(seed)
    for _ in range(1000):
        cell = np.diag(rng.uniform(1.6, 6.0, 3))
        cell[1, 0], cell[2, 0], cell[2, 1] = rng.uniform(-1, 1, 3) * [cell[0, 0], cell[0, 0], cell[1, 1]]
        cell = cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        cell[0] *= np.sign(np.linalg.det(cell))
        n_atoms = rng.integers(1, 5)
        frame = Frame(rng.uniform(-0.5, 1.5, (n_atoms, 3)) @ cell, rng.integers(0, 2, n_atoms), cell)
        frame.pbc = tuple(map(bool, rng.integers(0, 2, 3)))
        if not any(map(len, neighbors(frame.positions, cell, frame.pbc, 0.9))):
            return frame
    raise AssertionError("no frame without overlaps")


@pytest.mark.parametrize("seed", range(24))
def test_random_cells_equal_the_judge(compiled, plain_core, seed):
    frame = random_frame(seed)
    expected = Judge(make_tree()).evaluate(**frame.as_input())
    checks.assert_equal_physics(checks.of_frame(plain_core, frame), expected, "doors")


@pytest.fixture(scope="module")
def plain_core(compiled, tmp_path_factory):
    return core_of(make_tree(), tmp_path_factory.mktemp("random"))


def test_a_flipped_sign_is_noticed(tree):
    """The checks themselves: each of these faults must fail one of them."""
    good = Judge(tree).evaluate

    def spoiled(**changes):
        def call(*frame):
            result = good(*frame)
            return {**result, **{name: change(result) for name, change in changes.items()}}

        return call

    frame = make_frames(2)["smaller than the cutoff"]
    for check, fault in (
        (checks.check_forces, spoiled(forces=lambda r: -r["forces"])),
        (checks.check_virial, spoiled(virial=lambda r: -r["virial"])),
        (checks.check_parts_add_up, spoiled(atom_virial=lambda r: 0.5 * r["atom_virial"])),
        (checks.check_parts_add_up, spoiled(virial=lambda r: np.triu(r["virial"]))),
        (checks.check_replication, spoiled(energy=lambda r: r["energy"] + 1.0)),
    ):
        with pytest.raises(AssertionError):
            check(fault, frame)
