"""An MD step of our engine and of the peer: same weights, same LAMMPS input, runs interleaved on the same cores.

    python benchmarks/lammps.py --case water-192 copper-864
    python benchmarks/lammps.py --case scaling-192 scaling-12288
    python benchmarks/lammps.py --quick
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import md
import numpy as np
from engines import NAMES, OURS, available
from floor import machine_scaling, matrix_rate, n_neighbors, operations, ranks
from harness import Summary, header, ratio, table
from inputs import Structure, error_frames, start
from md import LARGE, Engine, Run, measure
from peer import peer_versions

CUTOFF = {"water": 6.0, "copper": 8.0}
SIZES = {"water": (192, 1536, 12288), "copper": (864, 4000)}
CASES = [f"{model}-{n}" for model, sizes in SIZES.items() for n in sizes] + ["scaling-192", "scaling-12288"]
DEFAULT = ["script", "plain float64", "exact float64", "spectral float64", "spectral mixed"]
DEFAULT += ["peer float64", "peer float32"]
LAYOUTS = {"1 core": (1, 1), "2 threads": (2, 1), "2 ranks": (1, 2)}  # threads, ranks
SECTIONS = ("Pair", "Neigh", "Comm")


def gate(folder: Path, model: str, engines: list[Engine], quick: bool) -> dict[str, tuple[float, float]]:
    """Prints energy and forces of every engine against our uncompressed float64 script path on held-out frames.

    Returns the largest and the root-mean-square force difference of each (eV/A).
    """
    frames = error_frames(model)[: 1 if quick else None]
    reference = next(iter(available(["script"], model, quick)), None)
    judges = [reference] if reference else []
    judges += available(["peer float64 plain"], model, quick)
    energies, forces = md.forces(folder, judges[0], frames)
    rows, errors = [], {}
    for engine in [*judges[1:], *(e for e in engines if e.name not in {j.name for j in judges})]:
        energy, force = md.forces(folder, engine, frames)
        errors[engine.name] = (np.abs(force - forces).max(), math.sqrt(((force - forces) ** 2).mean()))
        per_atom = np.abs(energy - energies).max() / len(frames[0].types)
        rows.append([engine.name, f"{energy[0]:.6f}", *(f"{x:.1e}" for x in (per_atom, *errors[engine.name]))])
    errors[judges[0].name] = (0.0, 0.0)
    print(f"\nGate: {len(frames)} held-out frame(s) of {len(frames[0].types)} atoms against '{judges[0].name}', "
          f"whose first energy is {energies[0]:.6f} eV; largest force {np.abs(forces).max():.2f} eV/A")  # fmt: skip
    print(table(["engine", "energy, eV", "energy error, eV/atom", "largest force error, eV/A", "rms, eV/A"], rows))
    if errors["peer float64 plain"][0] > 1e-8:
        print("GATE FAILED: both sides do not compute the same function; the ratios below mean nothing")
    return errors


def speed_table(model: str, structure: Structure, engines: list[Engine], runs: dict[str, list[Run]], errors) -> None:
    """Cost, ratio to the peer, share of the floor, error, memory; then whether the targets are met."""
    neighbors = n_neighbors(structure, CUTOFF[model])
    rate = {precision: matrix_rate(precision) for precision in ("float64", "float32")}
    rows, verdicts = [], []
    for engine in engines:
        costs = Summary(tuple(r.microseconds for r in runs[engine.name]))
        single = "float32" in engine.name or "mixed" in engine.name
        tabulated = not engine.name.endswith("plain") and engine.name != "script"
        spectral = ranks(engine.models[0]) if engine.ours else None
        floor = operations(neighbors, spectral, tabulated=tabulated) / rate["float32" if single else "float64"] * 1e6
        against = "-"
        variant = OURS.get(engine.name)
        if variant and variant.opponent in runs and not engine.slow:
            gain = ratio([r.microseconds for r in runs[variant.opponent]], costs.values)
            against = str(gain)
            if model in variant.target:
                wanted = variant.target[model]
                verdict = "met" if gain.median >= wanted else f"missed by {100 * (1 - gain.median / wanted):.0f} %"
                verdicts.append(f"target: {engine.name} {wanted} x {variant.opponent}; {gain.median:.2f} x, {verdict}")
        last = runs[engine.name][-1]
        worst, rms = errors.get(engine.name, (math.nan, math.nan))
        rows.append([engine.name, costs, against, f"{100 * floor / costs.median:.0f}", f"{worst:.1e}", f"{rms:.1e}",
                     f"{last.memory / 1e6:.0f}", "/".join(f"{last.split.get(k, 0):.0f}" for k in SECTIONS),
                     spectral or "-"])  # fmt: skip
    print(f"\n{len(structure.types)} atoms, {neighbors:.1f} neighbours; one core: matrix products at "
          f"{rate['float64'] / 1e9:.1f} GFLOP/s in float64, {rate['float32'] / 1e9:.1f} in float32")  # fmt: skip
    print(table(["engine", "us per atom and step", "x the peer in this precision", "% of floor", "largest force error",
                 "rms", "MB", f"{'/'.join(SECTIONS)} %", "ranks"], rows))  # fmt: skip
    print("\n".join(verdicts))
    for engine in engines:
        if engine.ours:
            print(f"{engine.name}: {runs[engine.name][-1].path}")


def scaling_table(engines: list[Engine], runs: dict[str, list[Run]]) -> None:
    """Two cores against one, beside what matrix products alone gain on this machine."""
    print(f"\nmatrix products on two cores at once: {machine_scaling():.2f} x one core")
    rows = []
    for engine in engines:
        alone = [r.microseconds for r in runs[f"{engine.name}, 1 core"]]
        for layout in LAYOUTS:
            costs = [r.microseconds for r in runs[f"{engine.name}, {layout}"]]
            gain = "-" if layout == "1 core" else ratio(alone, costs)
            rows.append([engine.name, layout, Summary(tuple(costs)), gain])
    print(table(["engine", "on", "us per atom and step", "x one core (target 1.9)"], rows), flush=True)


def run_case(case: str, args: argparse.Namespace) -> None:
    model, n_atoms = case.split("-")
    scaling, model = model == "scaling", "water" if model == "scaling" else model
    print(f"\n## {case}", flush=True)
    wanted = args.engines or (["spectral float64", "spectral mixed", "peer float64"] if scaling else DEFAULT)
    if int(n_atoms) > LARGE and not args.engines:
        wanted = [name for name in wanted if name != "script"]
    engines = available(wanted, model, args.quick)
    if scaling and not any(e.ours for e in engines):
        engines = [*available(["script"], model, args.quick), *engines]
    structure = start(model, int(n_atoms))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        errors = gate(folder, model, engines, args.quick)
        if scaling:
            tasks = {f"{e.name}, {layout}": (e, *where) for e in engines for layout, where in LAYOUTS.items()}
            scaling_table(engines, measure(folder, structure, tasks, args.seconds, args.repeats))
        else:
            tasks = {e.name: (e, 1, 1) for e in engines}
            runs = measure(folder, structure, tasks, args.seconds, args.repeats)
            speed_table(model, structure, engines, runs, errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=None, help="default: water-192 and copper-864")
    parser.add_argument("--engines", nargs="+", choices=NAMES, metavar="NAME", help=f"of: {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=float, default=10, help="of each run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two minutes: one case, short runs, barely trained models")
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.repeats = min(args.seconds, 1.0), min(args.repeats, 2)
    print(header(f"peer: {peer_versions()}"))
    for case in args.case or (["water-192"] if args.quick else ["water-192", "copper-864"]):
        run_case(case, args)


if __name__ == "__main__":
    main()
