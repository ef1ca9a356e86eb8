"""A training step of every kind of model against the peer's, for the same input and the same data.

The inputs are those of `examples`, on the data of the kind where `DEEPMD_SHARED_DATA` has them. The cost of a step is
taken between two lines of the log of one run, N and 2 N steps after its start, so that start-up, statistics and the
first steps drop out. Each of the peer's backends that knows the kind is tried; the ratio is to the fastest. On a busy
machine processor times mean something, and wall times nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from harness import HERE, environment_of, header, interleave, number, our_bin, ratio, run, table
from inputs import shared_data, water_systems
from peer import peer_bin, peer_versions

EXAMPLES = HERE.parent / "examples"
STEPS, HEAVY, QUICK = 100, 25, 10
BATCH = re.compile(rb"[Bb]atch\s+(\d+):")
MB = 1 << 20


@dataclass(frozen=True)
class Kind:
    """One row of the table. changes: keys of the descriptor; fitting: keys of the fitting net."""

    example: str
    backends: tuple[str, ...] = ("tf", "pt")
    data: str = "water"
    changes: dict[str, Any] = field(default_factory=dict)
    heavy: bool = False


KINDS = {
    "se_e2_a": Kind("descriptors/se_e2_a"),
    "se_e2_r": Kind("descriptors/se_e2_r"),
    "se_e3": Kind("descriptors/se_e3"),
    "se_e3_tebd": Kind("descriptors/se_e3_tebd", ("pt",), heavy=True),
    "se_a_tpe": Kind("descriptors/se_a_tpe", ("tf",)),
    "loc_frame": Kind("descriptors/loc_frame", ("tf",)),
    "se_atten": Kind("descriptors/se_atten", heavy=True),
    "se_atten, no attention": Kind("descriptors/se_atten", changes={"attn_layer": 0}),
    "se_atten_v2": Kind("descriptors/se_atten_v2"),
    "dpa2": Kind("descriptors/dpa2", ("pt",), heavy=True),
    "dpa3": Kind("descriptors/dpa3", ("pt",), heavy=True),
    "hybrid": Kind("descriptors/hybrid"),
    "dipole": Kind("fittings/dipole", data="dipole"),
    "polar": Kind("fittings/polar", data="polar"),
    "dos": Kind("fittings/dos", data="dos"),
    "property": Kind("fittings/property", ("pt",), data="property"),
    "spin": Kind("models/spin", ("pt",), data="spin"),
    "table beside a network": Kind("models/srtab"),
    "linear": Kind("models/linear"),
    "multi-task": Kind("models/multi_task", ("pt",)),
    "se_a_mask": Kind("models/se_a_mask", ("tf",), data="mask"),
}
FOLDERS = {
    "dipole": "water_tensor/dipole/training_data_reformat/atomic_system",
    "polar": "water_tensor/polar/training_data_reformat/atomic_system",
    "dos": "dos/data/heat-221-reformat/global_system",
    "property": "property/data/data_0",
    "spin": "spin/data_reformat/data_0",
    "mask": "zinc_protein/train_data_dp_mask",
}


def systems_of(kind: Kind) -> list[str] | None:
    """The data of a kind; None where they are not here."""
    if kind.data == "water":
        return water_systems()[0][:1]
    data = shared_data()
    folder = data / FOLDERS[kind.data] if data else None
    return [str(folder)] if folder is not None and folder.is_dir() else None


def input_of(kind: Kind, systems: list[str], steps: int) -> dict[str, Any]:
    """The example with these data and that many steps, without validation and checkpoints."""
    config = json.loads((EXAMPLES / f"{kind.example}.json").read_text())
    config.pop("_comment", None)
    model, training = config["model"], config["training"]
    if "descriptor" in model:
        model["descriptor"] |= kind.changes
    adapt(kind, config, Path(systems[0]))
    for section in training.get("data_dict", {"": training}).values():
        section.pop("validation_data", None)
        section["training_data"] |= {"systems": systems}
    training |= {"numb_steps": steps, "disp_freq": max(steps // 2, 1), "save_freq": 1000000}
    return config


def adapt(kind: Kind, config: dict[str, Any], folder: Path) -> None:
    """Types and widths of the data in place of those of the example."""
    model = config["model"]
    if kind.data in ("dos", "property"):
        model["type_map"] = (folder / "type_map.raw").read_text().split() if kind.data == "property" else ["Si"]
        name = {"dos": "dos", "property": "band_prop"}[kind.data]
        width = np.load(next(folder.glob(f"set.*/{name}.npy"))).reshape(-1).size // frames_of(folder)
        fitting = model["fitting_net"]
        fitting |= {"numb_dos": width} if kind.data == "dos" else {"task_dim": width, "property_name": name}
    if kind.data == "dos":
        config["loss"] |= {"start_pref_ados": 0.0, "limit_pref_ados": 0.0}
    if kind.data == "polar":
        config["loss"]["pref"] = 0.0


def frames_of(folder: Path) -> int:
    return len(np.load(next(folder.glob("set.*/coord.npy"))))


def with_numbers(value: Any, settled: Any) -> Any:
    """An input whose "auto" are the numbers of another one."""
    if isinstance(value, dict):
        return {key: with_numbers(one, settled[key]) if key in settled else one for key, one in value.items()}
    if isinstance(value, list) and isinstance(settled, list) and len(value) == len(settled):
        return [with_numbers(one, other) for one, other in zip(value, settled, strict=True)]
    return settled if isinstance(value, str) and value.startswith("auto") else value


def settle(kind: Kind, folder: Path, systems: list[str]) -> dict[str, Any]:
    """The input with `sel` counted by us, so that both sides take the same numbers."""
    config = input_of(kind, systems, 0)
    folder.mkdir(parents=True)
    shutil.copy(EXAMPLES / "models" / "table.txt", folder)
    (folder / "input.json").write_text(json.dumps(config))
    run([our_bin() / "dp", "train", "input.json"], folder, threads=1)
    return with_numbers(config, json.loads((folder / "out.json").read_text()))


@dataclass
class Cost:
    """Of one step; memory of the whole run."""

    cpu: float  # ms
    wall: float  # ms
    memory: int  # bytes


def programs(kind: Kind, backends: list[str]) -> dict[str, list[Any]]:
    """Commands by name: ours, and the peer's backends that know the kind."""
    peers = {f"peer {name}": [peer_bin() / "dp", f"--{name}"] for name in kind.backends if name in backends}
    return {"ours": [our_bin() / "dp"], **peers}


def processor_seconds(pid: int) -> float:
    """What a process has used so far, with its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def step_cost(command: list[Any], folder: Path, config: dict[str, Any], n: int) -> Cost | str:
    """The cost of a step between steps n and 2 n, or the last line of what went wrong."""
    config = copy.deepcopy(config)
    config["training"] |= {"numb_steps": 2 * n, "disp_freq": n}
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLES / "models" / "table.txt", folder)
    (folder / "input.json").write_text(json.dumps(config))
    environment = environment_of(command[0], threads=1)
    core = max(os.sched_getaffinity(0))
    marks: dict[int, tuple[float, float]] = {}
    lines: list[str] = []
    process = subprocess.Popen(
        [str(word) for word in (*command, "train", "--skip-neighbor-stat", "input.json")], cwd=folder, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    for line in process.stdout:
        if found := BATCH.search(line):
            marks.setdefault(int(found[1]), (processor_seconds(process.pid), time.perf_counter()))
        lines = [*lines, line.decode(errors="replace").strip()][-20:]
    _, status, usage = os.wait4(process.pid, 0)
    if status or not {n, 2 * n} <= marks.keys():
        return next((line for line in reversed(lines) if line), f"exit status {status}")[:120]
    cpu, wall = (1000 * (marks[2 * n][k] - marks[n][k]) / n for k in range(2))
    return Cost(cpu, wall, usage.ru_maxrss * 1024)


def rows_of(name: str, args: argparse.Namespace, folder: Path) -> Iterator[list[str]]:
    """The row of one kind."""
    kind = KINDS[name]
    systems = systems_of(kind)
    if systems is None:
        print(f"{name}: left out, its data are not here; set DEEPMD_SHARED_DATA", file=sys.stderr)
        return
    config = settle(kind, folder / "settle", systems)
    n = args.steps or (QUICK if args.quick else HEAVY if kind.heavy else STEPS)
    found: dict[str, list[Cost]] = {}

    def measure(who: str, command: list[Any]) -> float:
        cost = step_cost(command, folder / who.replace(" ", "_"), config, n)
        if isinstance(cost, str):
            print(f"{name}: {who} does not run: {cost}", file=sys.stderr)
            return 0.0
        found.setdefault(who, []).append(cost)
        return cost.cpu

    commands = programs(kind, args.backends)
    interleave({who: (lambda who=who: measure(who, commands[who])) for who in commands}, args.repeats)
    yield row(name, found)


def row(name: str, found: dict[str, list[Cost]]) -> list[str]:
    """Ours beside the fastest of the peer's backends."""

    def middle(who: str, key: str) -> float:
        return float(np.median([getattr(cost, key) for cost in found[who]]))

    peers = sorted((who for who in found if who != "ours"), key=lambda who: middle(who, "cpu"))
    ours = [number(middle("ours", key)) for key in ("cpu", "wall")] if "ours" in found else ["", ""]
    memory = number(middle("ours", "memory") / MB) if "ours" in found else ""
    if not peers or "ours" not in found:
        return [name, *ours, "", "", "", "", "", memory, ""]
    best, rest = peers[0], ", ".join(f"{who[5:]} {number(middle(who, 'cpu'))}" for who in peers[1:])
    ratios = [
        str(ratio([getattr(c, key) for c in found[best]], [getattr(c, key) for c in found["ours"]]))
        for key in ("cpu", "wall")
    ]
    theirs = [number(middle(best, key)) for key in ("cpu", "wall")]
    return [name, *ours, f"{best[5:]} {theirs[0]}", theirs[1], rest, *ratios, memory,
            number(middle(best, "memory") / MB)]  # fmt: skip


HEAD = ["kind", "ours, CPU ms", "wall ms", "peer, CPU ms", "wall ms", "its other backend, CPU ms", "ratio, CPU",
        "ratio, wall", "ours, MB", "peer, MB"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="KIND", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, metavar="N", help="how many steps are timed, after as many others")
    parser.add_argument("--backends", nargs="+", default=["tf", "pt"], help="of the peer")
    parser.add_argument("--quick", action="store_true", help="one round of very short runs")
    args = parser.parse_args()
    args.repeats = 1 if args.quick else args.repeats
    print(header(f"peer: {peer_versions()}", f"data: {water_systems()[2]}"), flush=True)
    rows = []
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            rows += rows_of(name, args, Path(folder))
        print(table(HEAD, rows[-1:]), flush=True)
    print(table(HEAD, rows), flush=True)


if __name__ == "__main__":
    main()
