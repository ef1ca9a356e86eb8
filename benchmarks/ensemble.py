"""The price of model deviation: four water models against one, every step and every tenth, ours and the peer's."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from engines import NAMES, available
from harness import Summary, header, ratio, table
from inputs import start
from md import measure
from peer import peer_versions

TARGETS = {1: 2.4, 10: 1.15}  # out_freq: wanted cost in units of one model's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", nargs="+", choices=NAMES, metavar="NAME",
                        default=["spectral float64", "spectral mixed", "peer float64"])  # fmt: skip
    parser.add_argument("--words", default="observers mixed", help="keywords for our pair_style beside the deviation's")
    parser.add_argument("--atoms", type=int, default=192)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two minutes: short runs, barely trained models")
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.repeats = 1.0, 2
    print(header(f"peer: {peer_versions()}"))
    engines = available(args.engines, "water", args.quick, ensemble=True)
    if not any(engine.ours for engine in engines):
        engines = [*available(["script"], "water", args.quick, ensemble=True), *engines]
    tasks = {}
    for engine in engines:
        tasks[f"{engine.name}, one"] = (replace(engine, models=engine.models[:1]), 1, 1)
        for every in TARGETS:
            more = args.words if engine.ours else ""
            words = f"out_file deviation.out out_freq {every} {more}".strip()
            tasks[f"{engine.name}, out_freq {every}"] = (replace(engine, words=words), 1, 1)
    with tempfile.TemporaryDirectory() as name:
        runs = measure(Path(name), start("water", args.atoms), tasks, args.seconds, args.repeats)
    costs = {task: [run.microseconds for run in done] for task, done in runs.items()}
    rows = []
    for engine in engines:
        rows.append([engine.name, "one model", Summary(tuple(costs[f"{engine.name}, one"])), "-", "-"])
        for every, target in TARGETS.items():
            four = costs[f"{engine.name}, out_freq {every}"]
            gain = ratio(four, costs[f"{engine.name}, one"])
            rows.append([engine.name, f"four, out_freq {every}", Summary(tuple(four)), gain, target])
    print(f"\n{args.atoms} atoms, one core")
    print(table(["engine", "models", "us per atom and step", "x one model", "target, at most"], rows))
    for engine in engines:
        if engine.ours:
            print(f"{engine.name}: {runs[f'{engine.name}, out_freq 1'][-1].path}")


if __name__ == "__main__":
    main()
