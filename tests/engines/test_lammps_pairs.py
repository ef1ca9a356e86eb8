"""The pairs that reach the engine from LAMMPS are those of the engine's own neighbour search, each exactly once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from lammps_run import find_program, job_script, make_job, plain_environment, run_program, write_data
from reference.dp_numpy import neighbors

# Stands in front of deepmd_ensemble_evaluate: writes down what it is given, one file per process, and answers zero.
SPY = """
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "deepmd/deepmd.h"
deepmd_status deepmd_ensemble_evaluate(deepmd_ensemble *e, const deepmd_input *in, int n_out, deepmd_output *out) {
  char name[64];
  int n_all = in->n_local + in->n_ghost;
  snprintf(name, sizeof name, "spied.%d", (int)getpid());
  FILE *file = fopen(name, "w");
  for (int i = 0; i < in->n_local; ++i) {
    const double *r = in->positions + 3 * i;
    fprintf(file, "c %d %.17g %.17g %.17g\\n", in->types[i], r[0], r[1], r[2]);
    for (int64_t p = in->list->first[i]; p < in->list->first[i + 1]; ++p) {
      const double *q = in->positions + 3 * in->list->index[p];
      fprintf(file, "n %d %.17g %.17g %.17g\\n", in->types[in->list->index[p]], q[0] - r[0], q[1] - r[1], q[2] - r[2]);
    }
  }
  fclose(file);
  *out->energy = 0.0;
  memset(out->forces, 0, sizeof(double) * 3 * n_all);
  if (out->virial) memset(out->virial, 0, sizeof(double) * 9);
  if (out->atom_energy) memset(out->atom_energy, 0, sizeof(double) * in->n_local);
  if (out->atom_virial) memset(out->atom_virial, 0, sizeof(double) * 9 * n_all);
  return DEEPMD_OK;
}
"""


@pytest.fixture(scope="module")
def spy(plugin: Path, tmp_path_factory) -> Path:
    """The library to preload."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the library that watches deepmd_ensemble_evaluate")
    from deepmd.core import include_folder

    folder = tmp_path_factory.mktemp("spy")
    (folder / "spy.c").write_text(SPY)
    command = [compiler, "-shared", "-fPIC", f"-I{include_folder()}", "-o", "spy.so", "spy.c"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "spy.so"


def read_pairs(folder: Path) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(type, position [3], neighbours [n, 4] of type and vector) of every centre on every rank."""
    centers = []
    for path in folder.glob("spied.*"):
        for line in path.read_text().splitlines():
            kind, *numbers = line.split()
            values = np.array(numbers, dtype=float)
            if kind == "c":
                centers.append((int(values[0]), values[1:], []))
            else:
                centers[-1][2].append(values)
    return [(t, position, np.reshape(rows, (-1, 4))) for t, position, rows in centers]


def in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(np.round(rows, 6).T[::-1])]


@pytest.mark.parametrize(
    ("name", "ranks"), [("skewed", 1), ("skewed", 3), ("smaller than the cutoff", 2), ("slab", 3), ("molecule", 2)]
)
def test_every_pair_arrives_once(name, ranks, spy, frames, models, tmp_path):
    frame = frames[name]
    small = "neighbor 0.5 nsq" if len(frame.positions) < 3 else ""
    job = make_job("pairs", frame, str(models["plain"]), after_box=small)
    write_data(job, tmp_path / "pairs.data")
    (tmp_path / "in.lammps").write_text(job_script(job))
    command = [find_program("mpirun"), "-n", str(ranks), find_program("lmp"), "-in", "in.lammps", "-log", "none"]
    outcome = run_program(
        command, tmp_path, {**plain_environment(), "LD_PRELOAD": str(spy), "DEEPMD_SHARE_SYMBOLS": "1"}
    )
    assert outcome.status == 0, outcome.output[-2000:]
    expected = neighbors(frame.positions, frame.cell, frame.pbc, 4.0)
    centers = read_pairs(tmp_path)
    assert len(centers) == len(frame.positions)
    inverse = None if frame.cell is None else np.linalg.inv(frame.cell)
    seen = set()
    for kind, position, rows in centers:
        shift = position - frame.positions
        if inverse is not None:
            shift = shift - np.round(shift @ inverse) @ frame.cell
        i = int(np.argmin(np.linalg.norm(shift, axis=1)))
        seen.add(i)
        assert kind == frame.types[i]
        near = rows[np.linalg.norm(rows[:, 1:], axis=1) < 4.0]
        wanted = np.array([[frame.types[j], *vector] for j, vector in expected[i]]).reshape(-1, 4)
        assert near.shape == wanted.shape
        np.testing.assert_allclose(in_order(near), in_order(wanted), atol=1e-9)
    assert len(seen) == len(frame.positions)
