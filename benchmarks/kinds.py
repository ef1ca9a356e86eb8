"""A training step of every kind of model against the peer's, for the same input and the same data.

The inputs are those of `examples`, on the data of the kind where `DEEPMD_SHARED_DATA` has them. The cost of a step is
taken between two lines of the log of one run, N and 2 N steps after its start, so that start-up, statistics and the
first steps drop out. Both backends of the peer are tried with every input; the ratio is to the faster one, and where
neither runs its own words stand in the table. On a busy machine processor times mean something, and wall times nothing.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from harness import HERE, environment_of, header, interleave, number, our_bin, ratio, run, table
from inputs import shared_data, water_systems
from peer import peer_bin, peer_versions

EXAMPLES = HERE.parent / "examples"
STEPS, HEAVY, LIGHT, QUICK = 25, 8, 200, 5
BATCH = re.compile(rb"[Bb]atch\s+(\d+):")
MB = 1 << 20


@dataclass(frozen=True)
class Kind:
    """One row of the table. changes: keys of the descriptor."""

    example: str
    data: str = "water"
    changes: dict[str, Any] = field(default_factory=dict)
    heavy: bool = False
    light: bool = False


KINDS = {
    "se_e2_a": Kind("descriptors/se_e2_a"),
    "se_e2_r": Kind("descriptors/se_e2_r"),
    "se_e3": Kind("descriptors/se_e3"),
    "se_e3_tebd": Kind("descriptors/se_e3_tebd", heavy=True),
    "se_a_tpe": Kind("descriptors/se_a_tpe"),
    "se_a_ebd_v2": Kind("descriptors/se_e2_a", changes={"type": "se_a_ebd_v2", "sel": [46, 92]}),
    "loc_frame": Kind("descriptors/loc_frame", changes={"axis_rule": []}),
    "se_atten": Kind("descriptors/se_atten", heavy=True),
    "se_atten, no attention": Kind("descriptors/se_atten", changes={"attn_layer": 0}),
    "se_atten_v2": Kind("descriptors/se_atten_v2"),
    "dpa2": Kind("descriptors/dpa2", heavy=True),
    "dpa3": Kind("descriptors/dpa3", heavy=True),
    "hybrid": Kind("descriptors/hybrid"),
    "dipole": Kind("fittings/dipole", data="dipole", light=True),
    "polar": Kind("fittings/polar", data="polar", light=True),
    "dos": Kind("fittings/dos", data="dos", light=True),
    "property": Kind("fittings/property", data="property", light=True),
    "spin": Kind("models/spin", data="spin"),
    "table beside a network": Kind("models/srtab"),
    "linear": Kind("models/linear"),
    "pairwise_dprc": Kind("models/pairwise_dprc", data="dprc", light=True),
    "multi-task": Kind("models/multi_task"),
    "se_a_mask": Kind("models/se_a_mask", data="mask", light=True),
    "dipole_charge": Kind("models/dipole_charge"),
}
FOLDERS = {
    "dipole": "water_tensor/dipole/training_data_reformat/atomic_system",
    "polar": "water_tensor/polar/training_data_reformat/atomic_system",
    "dos": "dos/data/heat-221-reformat/global_system",
    "property": "property/data/data_0",
    "spin": "spin/data_reformat/data_0",
    "mask": "zinc_protein/train_data_dp_mask",
    "dprc": "dprc/data",
}
BACKENDS = ("tf", "pt")


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
    if kind.data == "dprc":  # what the peer does not go without, here and below
        model["type_embedding"] = {"neuron": [8]}
    for part in model.get("models", []):
        if part.get("type") == "pairtab":
            part.setdefault("sel", 138)


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
    with_dipoles([our_bin() / "dp"], folder, config)
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


def programs(backends: list[str]) -> dict[str, list[Any]]:
    """Commands by name: ours, and the peer's backends."""
    return {"ours": [our_bin() / "dp"], **{name: [peer_bin(name) / "dp", f"--{name}"] for name in backends}}


def with_dipoles(command: list[Any], folder: Path, config: dict[str, Any]) -> None:
    """A frozen model of dipoles of the program's own, for the modifier of a model that has one."""
    modifier = config["model"].get("modifier")
    if modifier is None:
        return
    systems = systems_of(KINDS["dipole"])
    dipoles = input_of(KINDS["dipole"], systems, 1)
    dipoles["model"]["descriptor"]["sel"] = config["model"]["descriptor"]["sel"]
    modifier["model_name"] = "dipole.pb" if "--tf" in command else "dipole.pth"
    scratch = folder / "dipole"
    scratch.mkdir(exist_ok=True)
    (scratch / "input.json").write_text(json.dumps(dipoles))
    known = [] if isinstance(dipoles["model"]["descriptor"]["sel"], str) else ["--skip-neighbor-stat"]
    run([*command, "train", *known, "input.json"], scratch, threads=1)
    run([*command, "freeze", "-o", f"../{modifier['model_name']}"], scratch, threads=1)


def processor_seconds(pid: int) -> float:
    """What a process has used so far, with its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def step_cost(command: list[Any], folder: Path, config: dict[str, Any], n: int) -> Cost | str:
    """The cost of a step between steps n and 2 n, or the last line of what went wrong."""
    config = copy.deepcopy(config)
    config["training"] |= {"numb_steps": 2 * n, "disp_freq": n}
    folder.mkdir(parents=True, exist_ok=True)
    with_dipoles(command, folder, config)
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
        return reason(lines) or f"exit status {os.waitstatus_to_exitcode(status)}"
    cpu, wall = (1000 * (marks[2 * n][k] - marks[n][k]) / n for k in range(2))
    return Cost(cpu, wall, usage.ru_maxrss * 1024)


def reason(lines: list[str]) -> str:
    """What a program said last about why it ended."""
    lines = [line for line in lines if not line.startswith("implib-gen")]
    told = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b", line)] or [x for x in lines if x]
    return told[-1].replace("|", "/")[:160] if told else ""


def row_of(name: str, args: argparse.Namespace, folder: Path) -> list[str] | None:
    """The row of one kind: one round with every program, further ones with ours and the faster of the peer's."""
    kind = KINDS[name]
    systems = systems_of(kind)
    if systems is None or (name == "dipole_charge" and systems_of(KINDS["dipole"]) is None):
        print(f"{name}: left out, its data are not here; set DEEPMD_SHARED_DATA", file=sys.stderr)
        return None
    config = settle(kind, folder / "settle", systems)
    n = args.steps or (QUICK if args.quick else HEAVY if kind.heavy else LIGHT if kind.light else STEPS)
    found: dict[str, list[Cost]] = {}
    reasons: dict[str, str] = {}

    def measure(who: str, command: list[Any]) -> float:
        try:
            cost = step_cost(command, folder / who, config, n)
        except SystemExit as error:  # of a step before
            cost = reason(str(error).splitlines())
        if isinstance(cost, str):
            reasons[who] = cost
            return 0.0
        found.setdefault(who, []).append(cost)
        return cost.cpu

    commands = programs(args.backends)
    for turn in range(args.repeats):
        peers = sorted((who for who in found if who != "ours"), key=lambda who: found[who][0].cpu)
        these = ["ours", *peers[:1]] if turn else list(commands)
        interleave({who: (lambda who=who: measure(who, commands[who])) for who in these}, 1)
    return row(name, found, reasons)


def row(name: str, found: dict[str, list[Cost]], reasons: dict[str, str]) -> list[str]:
    """Ours beside the faster of the peer's backends, and what the others did."""

    def middle(who: str, key: str) -> float:
        return float(np.median([getattr(cost, key) for cost in found[who]]))

    peers = sorted((who for who in found if who != "ours"), key=lambda who: found[who][0].cpu)
    remarks = [f"{who} {number(middle(who, 'cpu'))}" for who in peers[1:]]
    remarks += [f"{who}: {text}" for who, text in reasons.items()]
    if "ours" not in found:
        return [name, *[""] * 8, "; ".join(remarks)]
    own, best = found["ours"], found[peers[0]] if peers else []
    ratios = [str(ratio([getattr(c, key) for c in best], [getattr(c, key) for c in own[: len(best)]])) if best else ""
              for key in ("cpu", "wall")]  # fmt: skip
    theirs = [f"{peers[0]} {number(middle(peers[0], 'cpu'))}", number(middle(peers[0], "wall"))] if peers else ["", ""]
    memory = [number(middle(who, "memory") / MB) for who in ("ours", *peers[:1])]
    return [name, number(middle("ours", "cpu")), number(middle("ours", "wall")), *theirs, *ratios,
            *memory, *[""] * (2 - len(memory)), "; ".join(remarks)]  # fmt: skip


HEAD = ["kind", "ours, CPU ms", "wall ms", "peer, CPU ms", "wall ms", "ratio, CPU", "ratio, wall", "ours, MB",
        "peer, MB", "its other backend: CPU ms, or what it said"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="KIND", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, metavar="N", help="how many steps are timed, after as many others")
    parser.add_argument("--backends", nargs="*", default=list(BACKENDS), help="of the peer")
    parser.add_argument("--quick", action="store_true", help="one round of very short runs")
    args = parser.parse_args()
    args.repeats = 1 if args.quick else args.repeats
    print(header(*(f"peer, {name}: {peer_versions(name)}" for name in args.backends), f"data: {water_systems()[2]}"),
          flush=True)  # fmt: skip
    rows = []
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            one = row_of(name, args, Path(folder))
        if one is not None:
            rows.append(one)
            print(table(HEAD, rows[-1:]), flush=True)
    print(table(HEAD, rows), flush=True)


if __name__ == "__main__":
    main()
