"""What the dynamic linker does when LAMMPS loads the plugin."""

from __future__ import annotations

import os
import re
import subprocess

import lammps_run
import pytest

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="the dynamic linker of Linux is asked")


def linker_words(folder, model, keywords: str) -> str:
    """What the dynamic linker says while LAMMPS computes the forces of two atoms."""
    (folder / "system.data").write_text(
        "two atoms\n\n2 atoms\n2 atom types\n0 9 xlo xhi\n0 9 ylo yhi\n0 9 zlo zhi\n\nMasses\n\n1 15.999\n2 1.008\n\n"
        "Atoms # atomic\n\n1 1 1 1 1\n2 2 2 1 1\n"
    )
    (folder / "in.lammps").write_text(
        "units metal\natom_style atomic\nread_data system.data\n"
        f"pair_style deepmd {model} {keywords}\npair_coeff * * O H\nrun 0\n"
    )
    environment = {
        **lammps_run.plain_environment(),
        "LD_DEBUG": "bindings",
        "LD_DEBUG_OUTPUT": str(folder / "linker"),
    }
    done = subprocess.run(
        [lammps_run.find_program("lmp"), "-in", "in.lammps"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    return "\n".join(path.read_text(errors="replace") for path in folder.glob("linker.*"))


def test_matrix_products_of_torch_stay_with_torch(tmp_path, models):
    """LAMMPS exports a slow reference dgemm_; bound to it, torch's matrix products run more than ten times slower."""
    text = linker_words(tmp_path, models["plain"], "path script")
    bound = re.findall(r"binding file (\S+) \[\d+\] to (\S+) \[\d+\]: normal symbol `[ds]gemm_'", text)
    wrong = [pair for pair in bound if "torch" in pair[0] and "torch" not in pair[1]]
    assert not wrong, f"torch's BLAS calls go elsewhere: {wrong}"
    assert any("torch" in user and "torch" in owner for user, owner in bound), "no matrix product of torch was seen"


def test_the_fused_path_brings_no_torch_and_no_foreign_matrix_product(tmp_path, models):
    text = linker_words(tmp_path, models["plain"], "path fused")
    files = re.findall(r"binding file (\S+) \[\d+\]", text)
    assert any("libdeepmd.so" in file for file in files), "the library was not seen"
    assert not [file for file in files if "torch" in file or "deepmd_script" in file]
    assert not re.findall(r"binding file \S*deepmd\S* \[\d+\] to \S+ \[\d+\]: normal symbol `[ds]gemm_'", text)
