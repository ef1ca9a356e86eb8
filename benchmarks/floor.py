"""The least time that the arithmetic of a force call needs: operations counted, rate of matrix products measured.

One multiply-add counts as two operations. Per atom: the embedding (or its table, or the table of its spectral
coefficients) for the real neighbours, forward and backward; the contraction; the fitting net, forward and input
gradient; geometry.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from inputs import Structure

RATE = """
import os, sys, time
os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
import numpy as np
kind = np.dtype(sys.argv[1])
a, w = np.ones((192, 1600), kind), np.ones((1600, 240), kind)
h, best, until = np.empty((192, 240), kind), 1e9, time.perf_counter() + float(sys.argv[2])
while time.perf_counter() < until:
    begin = time.perf_counter()
    for _ in range(10):
        np.matmul(a, w, out=h)
    best = min(best, (time.perf_counter() - begin) / 10)
print(2 * 192 * 1600 * 240 / best)
"""


def matrix_rate(precision: str, seconds: float = 2.0) -> float:
    """Operations per second of one core in the products of the fitting net (192 atoms, 1600 to 240), best of many."""
    single = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, "-c", RATE, precision, str(seconds)]
    return float(subprocess.run(command, env=single, capture_output=True, text=True, check=True).stdout)


def n_neighbors(structure: Structure, rcut: float) -> float:
    """Mean number of neighbours within the cutoff."""
    from deepmd.core import Neighbors

    first = Neighbors(rcut, 0.0).update(structure.positions, np.diag(structure.box), [True] * 3)[0]
    return float(first[-1]) / len(structure.types)


def ranks(model: Path) -> list[int] | None:
    """Spectral ranks per embedding net that a compressed file states; None: all channels."""
    with zipfile.ZipFile(model) as archive:
        for name in archive.namelist():
            if name.endswith("deepmd/compression.json"):
                record = json.loads(archive.read(name))
                return record.get("ranks") if record.get("kind") == "spectral" else None
    return None


def operations(neighbors: float, spectral: list[int] | None, *, tabulated: bool, axis: int = 16) -> float:
    """Operations per atom and step for an embedding 25-50-100 and a fitting net 240-240-240."""
    width, hidden = 100, 240
    inputs = axis * width
    if spectral:
        inputs = axis * sum(spectral)
        descriptor = neighbors * 28 * float(np.mean(spectral)) * 2 + 5 * 4 * sum(spectral) * axis * 2
    else:
        embedding = 28 * width * 2 if tabulated else 2 * (2 * 6275 + 1200)
        descriptor = neighbors * embedding + 3 * 4 * width * axis * 2
    return descriptor + 4 * (inputs * hidden + 2 * hidden**2 + hidden) + 80 * neighbors
