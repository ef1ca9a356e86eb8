"""The least time that the arithmetic of a force call needs: operations counted, rate of matrix products measured.

One multiply-add counts as two operations. Per atom: the embedding (or its table, or the table of its spectral
coefficients) for the real neighbours, forward and backward; the contraction; the fitting net, forward and input
gradient; geometry.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from inputs import Structure

RATE = """
import os, sys, time
os.sched_setaffinity(0, [int(sys.argv[3])])
import numpy as np
kind = np.dtype(sys.argv[1])
a, w = np.ones((192, 1600), kind), np.ones((1600, 240), kind)
h, best, n, begin = np.empty((192, 240), kind), 1e9, 0, time.perf_counter()
while time.perf_counter() < begin + float(sys.argv[2]):
    one = time.perf_counter()
    for _ in range(10):
        np.matmul(a, w, out=h)
    best, n = min(best, (time.perf_counter() - one) / 10), n + 10
print(2 * 192 * 1600 * 240 / best, 2 * 192 * 1600 * 240 * n / (time.perf_counter() - begin))
"""


def matrix_rates(precision: str, cores: int, seconds: float = 2.0) -> list[tuple[float, float]]:
    """Best and mean operations per second of each of several cores at once.

    The product is that of the fitting net: 192 atoms, 1600 to 240, one thread of NumPy's BLAS.
    """
    single = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    jobs = [
        subprocess.Popen([sys.executable, "-c", RATE, precision, str(seconds), str(core)], env=single, text=True,
                         stdout=subprocess.PIPE)
        for core in sorted(os.sched_getaffinity(0))[-cores:]
    ]  # fmt: skip
    return [tuple(map(float, job.communicate()[0].split())) for job in jobs]


def matrix_rate(precision: str) -> float:
    """Operations per second of one core, best of many."""
    return matrix_rates(precision, 1)[0][0]


def machine_scaling(cores: int = 2) -> float:
    """How much more matrix products that many cores make than one: what no program can exceed here."""
    alone = matrix_rates("float64", 1)[0][1]
    return sum(mean for _, mean in matrix_rates("float64", cores)) / alone


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
