"""An MD step of the standard water model against the peer, same weights, same LAMMPS input, runs interleaved."""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np
from peer import describe, machine, our_bin, peer_bin, run, shared

INPUT = """units metal
boundary p p p
atom_style atomic
neighbor 2.0 bin
neigh_modify every 10 delay 0 check no
read_data water.lmp
replicate {n} {n} {n}
mass 1 16
mass 2 2
pair_style deepmd {model}
pair_coeff * * O H
velocity all create 330.0 23456789
fix 1 all nve
timestep 0.0005
thermo 100
run {warm}
dump 1 all custom {steps} forces.dump id fx fy fz
dump_modify 1 sort id format float %.15g
run {steps}
"""


def prepare(folder: Path) -> dict[str, str]:
    """The same weights for both programs; the peer's model plain and compressed."""
    model = shared("water").parents[1] / "peer" / "water_full.dp"
    shutil.copy(shared("water", "lmp", "water.lmp"), folder)
    run([our_bin() / "dp", "convert-backend", model, "ours.pth"], folder, 1)
    run([peer_bin() / "dp", "convert-backend", model, "peer.pb"], folder, 1)
    return {"ours": "ours.pth", "peer, plain": "peer.pb"}


def step_time(who: str, model: str, folder: Path, args: argparse.Namespace, threads: int) -> tuple[float, np.ndarray]:
    """Microseconds per atom and step of the second run, and the forces at its end."""
    text = INPUT.format(model=model, n=args.replicate, warm=args.steps // 5 + 1, steps=args.steps)
    (folder / "in.lammps").write_text(text)
    program = our_bin() if who == "ours" else peer_bin()
    output = run([program / "lmp", "-in", "in.lammps"], folder, threads).output
    seconds, _, steps, atoms = re.findall(
        r"Loop time of (\S+) on (\d+) procs for (\d+) steps with (\d+) atoms", output
    )[-1]
    forces = np.loadtxt((folder / "forces.dump").read_text().split("ITEM: ATOMS")[-1].splitlines()[1:])[:, 1:]
    return float(seconds) / int(steps) / int(atoms) * 1e6, forces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--replicate", type=int, default=1, help="192 atoms times the cube of this number")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = prepare(folder)
        for threads in args.threads:
            times: dict[str, list[float]] = {who: [] for who in models}
            forces = {}
            for _ in range(args.repeats):
                for who, model in models.items():
                    cost, forces[who] = step_time(who, model, folder, args, threads)
                    times[who].append(cost)
            for who, values in times.items():
                ratio = statistics.median(values) / statistics.median(times["ours"])
                worst = np.abs(forces[who] - forces["ours"]).max()
                print(f"{threads} thread(s), {who:12}: {describe(values)} us per atom and step, {ratio:.2f} x ours, "
                      f"forces differ by {worst:.1e} eV/A after the run", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
