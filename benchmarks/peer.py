"""What the benchmarks share: the peer's environment, timed runs, a table."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "DP_INTRA_OP_PARALLELISM_THREADS",
    "DP_INTER_OP_PARALLELISM_THREADS",
    "TF_INTRA_OP_PARALLELISM_THREADS",
    "TF_INTER_OP_PARALLELISM_THREADS",
)


@dataclass
class Timing:
    """One run of a command."""

    wall: float  # s
    cpu: float  # s, user and system, children included
    memory: int  # largest resident set, bytes
    output: str


def shared(*parts: str) -> Path:
    """A path in the shared data; leaves with a sentence where it is absent."""
    data = Path(os.environ.get("DEEPMD_SHARED_DATA") or HERE.parent.parent / "shared" / "data")
    path = (data / Path(*parts)).resolve()
    if not path.exists():
        sys.exit(f"benchmarks: {path} is absent; set DEEPMD_SHARED_DATA to the folder of the shared data")
    return path


def our_bin() -> Path:
    return Path(sys.executable).parent


def peer_bin() -> Path:
    """The `bin` folder of an environment with the peer; made on first use."""
    folder = Path(os.environ.get("DEEPMD_PEER_ENV") or HERE / ".peer")
    if not (folder / "bin" / "dp").exists():
        print(f"installing deepmd-kit[cpu,lmp] into {folder} (2 GB, some minutes) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", "deepmd-kit[cpu,lmp]"], check=True)
    return folder / "bin"


def run(command: list[str | Path], folder: Path, threads: int) -> Timing:
    """Runs a command with that many threads; a failure shows its output and ends the benchmark."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    environment["DP_INTER_OP_PARALLELISM_THREADS"] = environment["TF_INTER_OP_PARALLELISM_THREADS"] = "1"
    environment["PATH"] = f"{Path(command[0]).parent}{os.pathsep}{environment['PATH']}"
    begin = time.perf_counter()
    with open(folder / "benchmark.log", "w+") as log:
        process = subprocess.Popen([str(c) for c in command], cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        log.seek(0)
        output = log.read()
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))} failed in {folder}:\n{output[-3000:]}")
    return Timing(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)


def describe(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):8.2f} ({min(values):.2f} to {max(values):.2f})"


def machine() -> str:
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load {load:.1f}"
