"""Do models that we write give the same numbers in DeePMD-kit? Not part of the tests, as it needs that program.

    PYTHONPATH=tests python tests/reference/peer_reads_us.py write FOLDER     with this program
    python tests/reference/peer_reads_us.py predict FOLDER [NAME ...]         with DeePMD-kit 3.2 and PyTorch
    PYTHONPATH=tests python tests/reference/peer_reads_us.py compare FOLDER   with this program
    PYTHONPATH=tests python tests/reference/peer_reads_us.py keep FOLDER      with this program
    PYTHONPATH=tests python tests/reference/peer_reads_us.py table            with this program

`write` makes NNN.dp (and NNN.yaml for some) of every model of exchange_models.py, the frames and our predictions.
`predict` converts each file to DeePMD-kit's own .pth with its `convert-backend`, opens it as its users do and stores
what it predicts, or why it refuses. `compare` prints the largest difference of each quantity. `keep` packs models and
predictions of the peer for tests/data/written, which test_written_trees.py reads. `table` prints kind x quantity x
largest difference of what is kept there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

TAKEN_OTHERWISE = ("ener: se_e2_r, two-sided",)
"""What DeePMD-kit's PyTorch backend reads as another model without a word; it is not kept."""
INPUTS = ("coord", "cell", "atype", "fparam", "aparam", "spin")
KEPT = Path(__file__).resolve().parents[1] / "data" / "written"


def write(folder: Path) -> None:
    """Models, frames and our predictions."""
    from deepmd.exchange import write_tree
    from reference.agreement_with_peer import predict as ours
    from reference.exchange_models import as_arrays, catalogue, exchange_frames

    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, make) in enumerate(catalogue().items()):
        model = make(folder)
        tree = {"model": model.serialize(), "model_def_script": {}, "backend": "PyTorch", "@variables": {}}
        write_tree(folder / f"{number:03d}.dp", tree)
        if number % 10 == 0:
            write_tree(folder / f"{number:03d}.yaml", tree)
        arrays = {"name": np.array(name), "kind": np.array(model.facts().kind)}
        for label, frame in exchange_frames(model).items():
            inputs = as_arrays(frame)
            for key, value in {**inputs, **ours(model, inputs, frame.types)}.items():
                arrays[f"{label}.{key}"] = value
        np.savez(folder / f"{number:03d}.npz", **arrays)


def predict(folder: Path, only: list[str]) -> None:
    """What the peer makes of the files; a refusal is stored as its sentence."""
    import torch
    from deepmd.entrypoints.convert_backend import convert_backend

    torch._C._jit_set_profiling_executor(False)  # four frames do not pay for optimising a script
    for path in sorted(folder.glob("*.npz")):
        if path.name.endswith(".peer.npz") or (only and path.stem not in only):
            continue
        data, target = np.load(path), path.with_suffix(".pth")
        found: dict[str, np.ndarray] = {}
        try:
            try:
                for suffix in (".dp", ".yaml"):
                    if path.with_suffix(suffix).exists():
                        convert_backend(INPUT=str(path.with_suffix(suffix)), OUTPUT=str(target))
                door = open_model(target, str(data["kind"]))
            except Exception as error:  # some of its models do not become a script; read them as they are
                if str(data["kind"]) != "energy":
                    raise
                print(f"{data['name']!s:36} not scripted: {' '.join(str(error).split())[:90]}")
                door = Unscripted(path.with_suffix(".dp"))
            for label in dict.fromkeys(key.split(".")[0] for key in data if "." in key):
                frame = {key.split(".", 1)[1]: data[key] for key in data if key.startswith(label + ".")}
                for key, value in evaluate(door, str(data["kind"]), frame).items():
                    found[f"{label}.{key}"] = np.asarray(value)
        except Exception as error:
            reason = " ".join(line.strip() for line in str(error).strip().splitlines()[-3:])
            found = {"refused": np.array(f"{type(error).__name__}: {reason}")}
        np.savez(path.with_suffix(".peer.npz"), **found)
        print(f"{data['name']!s:36} {found.get('refused', 'read')}", flush=True)


class Unscripted:
    """The peer's model in memory, with the call of its interface for users."""

    def __init__(self, path: Path):
        from deepmd.dpmodel.utils.serialization import load_dp_model
        from deepmd.pt.model.model.model import BaseModel

        self.model = BaseModel.deserialize(load_dp_model(str(path))["model"]).eval()

    def eval(self, coord: Any, cell: Any, types: Any, atomic: bool = True) -> tuple[Any, ...]:
        import torch

        box = None if cell is None else torch.from_numpy(np.array(cell, dtype=np.float64))
        atype = torch.from_numpy(np.array(types)).reshape(1, -1)
        coord = torch.from_numpy(np.array(coord)).reshape(1, -1, 3)
        found = self.model.forward(coord, atype, box=box, do_atomic_virial=atomic)
        return tuple(found[key].detach().numpy() for key in ("energy", "force", "virial", "atom_energy", "atom_virial"))


def open_model(path: Path, kind: str) -> Any:
    """The peer's interface for users."""
    from deepmd.infer.deep_dipole import DeepDipole
    from deepmd.infer.deep_dos import DeepDOS
    from deepmd.infer.deep_polar import DeepPolar
    from deepmd.infer.deep_pot import DeepPot
    from deepmd.infer.deep_property import DeepProperty

    doors = {
        "energy": DeepPot,
        "spin": DeepPot,
        "dipole": DeepDipole,
        "polar": DeepPolar,
        "dos": DeepDOS,
        "property": DeepProperty,
    }
    return doors[kind](str(path))


def evaluate(model: Any, kind: str, frame: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One frame, under the names of tests/data/peer."""
    cell = frame["cell"].reshape(1, 9) if "cell" in frame else None
    inputs = (frame["coord"].reshape(1, -1), cell, frame["atype"])
    more = {key: frame[key].reshape(1, -1) for key in ("fparam", "aparam", "spin") if key in frame}
    if kind == "spin":
        names = ("energy", "force", "virial", "atom_energy", "atom_virial", "force_mag", "mask")
        found = dict(zip(names, model.eval(*inputs, atomic=True, **more), strict=True))
        return {key: value[0] for key, value in found.items() if key not in ("atom_virial", "mask")}
    if kind == "energy":
        names = ("energy", "force", "virial", "atom_energy", "atom_virial")
        return {key: value[0] for key, value in zip(names, model.eval(*inputs, atomic=True, **more), strict=True)}
    if kind in ("dos", "property"):
        total, atomic = model.eval(*inputs, atomic=True)[:2]
        return {"out0": total[0], "out1": atomic[0]}
    found = {"atomic": model.eval(*inputs, atomic=True)[0], "global": model.eval(*inputs, atomic=False)[0]}
    full = model.eval_full(*inputs, atomic=True)
    names = ("full.g", "full.force", "full.virial", "full.a", "full.atom_virial")
    return {**found, **{key: value[0] for key, value in zip(names, full, strict=True)}}


def compare(folder: Path) -> None:
    """The largest differences, one line a model."""
    for path in sorted(folder.glob("*.peer.npz")):
        theirs, ours = np.load(path), np.load(path.with_name(path.name.replace(".peer", "")))
        if "refused" in theirs:
            print(f"{ours['name']!s:36} refused: {theirs['refused']}")
            continue
        print(f"{ours['name']!s:36} " + "  ".join(f"{k} {v:.1e}" for k, v in differences(ours, theirs).items()))


def differences(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of each quantity over all frames."""
    from reference.agreement_with_peer import stored

    worst: dict[str, float] = {}
    for key in theirs:
        frame, quantity = key.split(".", 1)
        mine = ours[key] if key in ours else None
        other = stored(quantity, theirs[key], len(ours[f"{frame}.atype"]))
        if mine is None or (quantity.startswith("full.") and np.size(mine) != np.size(other)):
            continue  # the peer has no such derivative, or another definition (see agreement_with_peer.py)
        worst[quantity] = max(worst.get(quantity, 0.0), float(np.abs(np.ravel(mine) - np.ravel(other)).max()))
    return worst


def keep(folder: Path) -> None:
    """Packs everything that the peer has read: the tree as JSON, its numbers in one array, frames and predictions."""
    from deepmd.exchange import flatten, read_tree

    KEPT.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("*.peer.npz")):
        theirs, ours = np.load(path), np.load(path.with_name(path.name.replace(".peer", "")))
        if "refused" in theirs or str(ours["name"]) in TAKEN_OTHERWISE:
            continue
        json_tree, arrays = flatten(read_tree(path.with_name(path.name.replace(".peer.npz", ".dp")))["model"])
        shapes = [[str(a.dtype), list(a.shape)] for a in arrays.values()]
        text = json.dumps({"tree": json_tree, "arrays": shapes}, separators=(",", ":"))
        numbers = np.concatenate([np.ravel(a).astype(np.float64) for a in arrays.values()])
        inputs = {k: v for k, v in ours.items() if k.split(".")[-1] in INPUTS}
        stem = "".join(c if c.isalnum() else "_" for c in str(ours["name"])).replace("__", "_")
        np.savez_compressed(KEPT / f"{stem}.npz", model=np.array(text), numbers=numbers, **inputs, **theirs)


def stored_tree(data: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The tree of a kept model as it was written: JSON, and its arrays."""
    content = json.loads(str(data["model"]))
    arrays, start = {}, 0
    for number, (kind, shape) in enumerate(content["arrays"]):
        size = int(np.prod(shape))
        arrays[f"variable_{number:04d}"] = data["numbers"][start : start + size].astype(kind).reshape(shape)
        start += size
    return content["tree"], arrays


def kept_differences(data: Any, model: Any) -> dict[str, float]:
    """The largest difference of each quantity between a model and what the peer predicted with the kept file."""
    from reference.agreement_with_peer import predict as own

    ours = {}
    for label in dict.fromkeys(key.split(".")[0] for key in data if "." in key):
        frame = {key: data[f"{label}.{key}"] for key in INPUTS if f"{label}.{key}" in data}
        ours |= {f"{label}.{key}": value for key, value in {**frame, **own(model, frame, frame["atype"])}.items()}
    theirs = {key: data[key] for key in data if "." in key and key.split(".")[-1] not in INPUTS}
    return differences(ours, theirs)


def table() -> None:
    """Rows of Markdown: fitting and descriptor, and the largest difference of each quantity over their models."""
    from deepmd.exchange import unflatten
    from deepmd.nn.model import deserialize

    rows: dict[tuple[str, str], dict[str, float]] = {}
    for path in sorted(KEPT.glob("*.npz")):
        data = np.load(path)
        tree = unflatten(*stored_tree(data))
        fitting = tree.get("fitting", {}).get("type", "ener")
        kind = tree["descriptor"]["type"] if tree["type"] == "standard" else tree["type"]
        row = rows.setdefault((fitting, f"{kind}, float32" if "float32" in path.stem else kind), {"models": 0})
        row["models"] += 1
        for key, value in kept_differences(data, deserialize({"model": tree}).eval()).items():
            row[key] = max(row.get(key, 0.0), value)
    for (fitting, kind), row in sorted(rows.items()):
        cells = (f"{key} {value:.0e}" for key, value in row.items() if key != "models")
        print(f"| {fitting} | {kind} | {row['models']} | {', '.join(cells)} |")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if sys.argv[1:] == ["table"]:
        table()
        sys.exit()
    job, place = sys.argv[1], Path(sys.argv[2])
    predict(place, sys.argv[3:]) if job == "predict" else {"write": write, "compare": compare, "keep": keep}[job](place)
