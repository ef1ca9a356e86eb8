"""The force call on a GPU: first how far its numbers are from the CPU's, then how fast it is.

    python benchmarks/gpu.py                       the standard water model, with random weights
    python benchmarks/gpu.py --model graph.pth     one of your own (elements O and H)
    python benchmarks/gpu.py --sanitize            one small call of each kind, for compute-sanitizer

A model's weights do not change its speed, so the model is made on the spot. Times are of `Model.evaluate` with a list
that is kept: positions up, forces down. With LAMMPS around it: `benchmarks/lammps.py --engine "cuda spectral float64"`.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import table
from inputs import HERE, Structure, repeats

SKIN, SIZES = 2.0, (192, 1536, 27648, 110592)
TARGETS = {192: "<= 100 us/step", 27648: ">= 5 M", 110592: ">= 15 M float64, 30 M mixed"}
# Million atom-steps/s that an H100's arithmetic and caches allow
FLOORS = {("exact", "float64"): 5.5, ("exact", "mixed"): 11, ("spectral", "float64"): 46, ("spectral", "mixed"): 53}
WAYS = tuple(FLOORS)


def water(n_atoms: int) -> Structure:
    """Molecules at the density of the liquid, turned at random, on a grid of 4 x 4 x 4 that is repeated."""
    rng, edge = np.random.default_rng(0), 12.44
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3) * (edge / 4)
    bonds = np.array([[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
    turns = np.linalg.qr(rng.normal(size=(64, 3, 3)))[0]
    positions = (grid + rng.uniform(-0.15, 0.15, grid.shape))[:, None] + np.einsum("ab,kbc->kac", bonds, turns)
    one = Structure(["O", "H"], np.tile([0, 1, 1], 64), positions.reshape(-1, 3) % edge, np.full(3, edge))
    return one.repeated(repeats(192, n_atoms))


def make_models(folder: Path, source: str | None, small: bool) -> dict[str, str]:
    """The model as it is ("exact": tables to rounding) and with a spectral basis."""
    from deepmd.compress import Options, compress_file
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import build

    path = Path(source) if source else folder / "graph.pth"
    if not source:
        width, fitting = ([5, 10, 20], [24] * 2) if small else ([25, 50, 100], [240] * 3)
        descriptor = {"type": "se_e2_a", "rcut": 6.0, "rcut_smth": 0.5, "sel": [46, 92], "neuron": width,
                      "axis_neuron": 16, "activation_function": "tanh", "seed": 1, "type_one_side": True}  # fmt: skip
        net = {"type": "ener", "neuron": fitting, "activation_function": "tanh", "resnet_dt": True, "seed": 1}
        freeze_model(build({"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": net}), path)
    data = [str(HERE.parent / "examples" / "lmp" / "data" / "train")]
    compress_file(path, folder / "spectral.pth", Options(data=data, max_frames=4))
    return {"exact": str(path), "spectral": str(folder / "spectral.pth")}


def frame_of(structure: Structure) -> dict:
    return {"positions": structure.positions, "types": structure.types, "cell": np.diag(structure.box)}


def agreement(models: dict[str, str]) -> dict[tuple[str, str], float]:
    """Prints differences to the CPU's kernels and between two runs; returns the largest force error of each way."""
    from deepmd.core import Model

    given, rows, errors = frame_of(water(192)), [], {}
    expected = Model(models["exact"], path="fused", precision="float64").evaluate(**given, atomic=True)
    for kind, precision in WAYS:
        model = Model(models[kind], path="cuda", precision=precision)
        one, other = (model.evaluate(**given, atomic=True) for _ in range(2))
        own = Model(models[kind], path="fused", precision=precision).evaluate(**given, atomic=True)
        differences = [np.abs(one[key] - own[key]).max() for key in ("forces", "virial", "atom_energy", "atom_virial")]
        errors[kind, precision] = float(np.abs(one["forces"] - expected["forces"]).max())
        same = all(np.array_equal(one[key], other[key]) for key in one)
        numbers = (f"{x:.1e}" for x in (*differences, errors[kind, precision]))
        rows.append([kind, precision, *numbers, "yes" if same else "NO"])
    heads = ["kind", "precision", "forces", "virial", "atom energy", "atom virial", "force error", "equal bits twice"]
    print(table(heads, rows))
    print("differences: to the fused path of the same kind; force error: to float64 without compression\n")
    return errors


def seconds_per_call(model, structure: Structure, seconds: float) -> float:
    """Median over calls with slightly moved positions and a kept list."""
    from deepmd.core import Neighbors

    kept, rng, times = Neighbors(model.rcut, SKIN), np.random.default_rng(0), []
    given = frame_of(structure)
    moved = [structure.positions + rng.uniform(-0.05, 0.05, structure.positions.shape) for _ in range(4)]
    end = time.perf_counter() + seconds
    while len(times) < 8 or time.perf_counter() < end:
        given["positions"] = moved[len(times) % 4]
        begin = time.perf_counter()
        model.evaluate(**given, neighbors=kept)
        times.append(time.perf_counter() - begin)
    return float(np.median(times[4:]))


def with_images(structure: Structure, reach: float) -> dict:
    """The atoms and their periodic images within ``reach`` of the cell, as an MD engine hands them over."""
    positions, owners = [structure.positions], [np.arange(len(structure.positions))]
    for shift in itertools.product((-1, 0, 1), repeat=3):
        image = structure.positions + np.array(shift) * structure.box
        near = np.flatnonzero(((image > -reach) & (image < structure.box + reach)).all(axis=1) & any(shift))
        positions.append(image[near])
        owners.append(near)
    owner = np.concatenate(owners)
    return {"positions": np.concatenate(positions), "types": structure.types[owner], "n_local": len(structure.types)}


def lists(models: dict[str, str], sizes: list[int], seconds: float) -> None:
    """Calls that find the neighbours anew on the GPU, beside the differences to the list of the CPU."""
    from deepmd.core import Model

    model, rows = Model(models["spectral"], path="cuda", precision="mixed"), []
    for n in sizes:
        structure = water(n)
        given = with_images(structure, model.rcut + SKIN)
        kept = seconds_per_call(model, structure, seconds)
        times = []
        while len(times) < 5:
            begin = time.perf_counter()
            found = model.evaluate(**given, list=model.rcut + SKIN)
            times.append(time.perf_counter() - begin)
        expected = model.evaluate(**frame_of(structure))
        virial = np.abs(found["virial"] - expected["virial"]).max() / n
        energy = abs(found["energy"] - expected["energy"]) / n
        rows.append([n, f"{np.median(times) * 1e6:.0f}", f"{kept * 1e6:.0f}", f"{energy:.1e}", f"{virial:.1e}"])
    heads = ["atoms", "us/step with a new list", "us/step with a kept list", "energy per atom", "virial per atom"]
    print(f"the list found on the GPU; differences to the call with the CPU's list\n{table(heads, rows)}\n")


def speed(models: dict[str, str], errors: dict, sizes: list[int], seconds: float) -> None:
    from deepmd.core import Ensemble, Model, Neighbors

    rows, last = [], None
    for kind, precision in WAYS:
        model = Model(models[kind], path="cuda", precision=precision)
        for n in sizes:
            took = seconds_per_call(model, water(n), seconds)
            rate = n / took * 1e-6
            share = f"{100 * rate / FLOORS[kind, precision]:.0f} %"
            numbers = (f"{took * 1e6:.0f}", f"{rate:.2f}", share, f"{errors[kind, precision]:.1e}")
            rows.append([kind, precision, n, *numbers, TARGETS.get(n, "")])
        last = model.path_description
    heads = ["kind", "precision", "atoms", "us/step", "M atom-steps/s", "of floor", "force error", "target"]
    print(table(heads, rows))
    print(f"{last}\n")
    structure = water(192)
    four = [Model(models["spectral"], path="cuda") for _ in range(4)]
    ensemble, kept = Ensemble(four), Neighbors(four[0].rcut, SKIN)
    times = []
    for _ in range(50):
        begin = time.perf_counter()
        ensemble.evaluate(**frame_of(structure), neighbors=kept)
        times.append(time.perf_counter() - begin)
    alone = seconds_per_call(four[0], structure, seconds)
    print(f"4 models on 192 atoms: {np.median(times) / alone:.2f} x one (target <= 1.4)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a frozen model of O and H that is not compressed")
    parser.add_argument("--size", type=int, nargs="+", default=list(SIZES), help="atoms: multiples of 192")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    parser.add_argument("--quick", action="store_true", help="a narrow model, one size, little time")
    parser.add_argument("--sanitize", action="store_true", help="no timing, a narrow model")
    args = parser.parse_args()

    from deepmd.core import describe_gpus

    print(f"GPUs: {describe_gpus()}\n")
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(Path(folder), args.model, args.quick or args.sanitize)
        errors = agreement(models)
        lists(models, [192] if args.quick or args.sanitize else args.size, 0.1 if args.quick else args.seconds)
        if not args.sanitize:
            speed(models, errors, [192] if args.quick else args.size, 0.1 if args.quick else args.seconds)


if __name__ == "__main__":
    main()
