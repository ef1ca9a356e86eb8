"""How far are we from DeePMD-kit's predictions for its own models? Prints kind x quantity x worst error.

    PYTHONPATH=tests python tests/reference/agreement_with_peer.py [FOLDER ...]

A folder holds NAME.dp and NAME.npz as tests/data/peer/README.md tells; that folder is read where none is named. Units
are those of the quantities: eV, eV/Angstrom, and the label's unit for tensors, densities of states and properties. Two
things are compared in the peer's definition instead of ours, and nowhere else:

- Where an atom has more neighbours than `sel`, the pairs that DeePMD-kit drops are taken away (peer_frames.py). If two
  neighbours at the edge of the list have one distance, its choice is open and the frame is named, not compared.
- Atomic virials of models that pass messages: DeePMD-kit gives atom k the sum over i of -dE_i/dr_k (r_k - r_i), which
  goes beyond the neighbours of k and depends on which images of the atoms a frame lists; we give it -dE/dr_ik r_ik over
  its pairs, as for every other model. Both add up to the virial.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "python"))

from deepmd.exchange import check_supported, read_tree  # noqa: E402
from deepmd.nn.frames import arguments, assemble, evaluate, find_pairs  # noqa: E402
from deepmd.nn.model import deserialize  # noqa: E402
from peer_frames import DROPPED, FOLDER, TIES, frames, padded  # noqa: E402


def predict(model: Any, frame: dict[str, np.ndarray], types: np.ndarray) -> dict[str, np.ndarray]:
    """Every quantity that the peer may have stored, under the peer's name."""
    cell = frame["cell"].reshape(3, 3) if "cell" in frame else None
    facts, n = model.facts(), len(types)
    pairs = find_pairs(frame["coord"].reshape(-1, 3), cell, facts.rcut)
    if facts.kind == "spin":
        found = evaluate(model, pairs, types, spin=frame["spin"])
        names = {"force": "forces", "force_mag": "force_mag", "virial": "virial", "atom_energy": "atom_energy"}
        return {"energy": found["energy"], **{theirs: found[ours] for theirs, ours in names.items()}}
    out = model(*arguments(pairs, types, frame.get("fparam"), frame.get("aparam")))
    out = {key: value.detach().numpy() for key, value in out.items()}
    gradient = out.pop("pair_gradient", None)
    atomic = out[f"atom_{facts.kind}"].reshape(n, -1)
    total = atomic.mean(axis=0) if facts.output.get("reduce") == "mean" else atomic.sum(axis=0)
    if facts.kind == "energy":
        forces, virial = assemble(pairs, gradient, n)
        with_messages = any(one.passes_messages for one in model.descriptors())
        shares = moments(model, frame, types) if with_messages else atom_virial(pairs, gradient, n)
        return {"energy": total, "force": forces, "virial": virial, "atom_energy": atomic, "atom_virial": shares}
    if gradient is None:
        return {"out0": total, "out1": atomic}
    parts = [assemble(pairs, gradient[:, c], n) for c in range(gradient.shape[1])]
    found = {
        "atomic": atomic, "global": total, "full.a": atomic, "full.g": total,
        "full.force": np.stack([forces for forces, _ in parts]),
        "full.virial": np.stack([virial for _, virial in parts]),
    }  # fmt: skip
    if not any(one.passes_messages for one in model.descriptors()):
        shares = [atom_virial(pairs, gradient[:, c], n) for c in range(gradient.shape[1])]
        found["full.atom_virial"] = np.stack(shares)
    return found


def atom_virial(pairs: Any, gradient: np.ndarray, n: int) -> np.ndarray:
    """The share of each atom [n, 3, 3]: what the pairs in which it is the neighbour contribute."""
    shares = np.zeros((n, 3, 3))
    np.add.at(shares, pairs.neighbors, -gradient[:, :, None] * pairs.vectors[:, None, :])
    return shares


def pair_shares(model: Any, frame: dict[str, np.ndarray], types: np.ndarray) -> np.ndarray:
    """Our atomic virials of an energy model [n, 3, 3]."""
    pairs = find_pairs(
        frame["coord"].reshape(-1, 3), frame["cell"].reshape(3, 3) if "cell" in frame else None, model.facts().rcut
    )
    return atom_virial(pairs, model(*arguments(pairs, types))["pair_gradient"].detach().numpy(), len(types))


def moments(model: Any, frame: dict[str, np.ndarray], types: np.ndarray) -> np.ndarray:
    """The peer's atomic virials of a model that passes messages [n, 3, 3]."""
    positions, cell = frame["coord"].reshape(-1, 3), frame["cell"].reshape(3, 3) if "cell" in frame else None
    pairs = find_pairs(positions, cell, model.facts().rcut)
    vectors, *others = arguments(pairs, types)
    vectors.requires_grad_(True)
    energies = model.atom_energy(vectors, *others)
    weights = [torch.ones(len(types)), *torch.from_numpy(positions).T]
    g, *moved = (torch.autograd.grad((energies * w).sum(), vectors, retain_graph=True)[0].numpy() for w in weights)
    moved = np.stack(moved, axis=2)  # [n_pairs, a of the vector, b of the weight]
    start = positions[pairs.centers]
    shares = np.zeros((len(types), 3, 3))
    np.add.at(shares, pairs.neighbors, moved - g[:, :, None] * (start + pairs.vectors)[:, None, :])
    np.add.at(shares, pairs.centers, g[:, :, None] * start[:, None, :] - moved)
    return shares


def stored(quantity: str, value: np.ndarray, n: int) -> np.ndarray:
    """A value of the peer in our order. Derivatives of tensors: it stores [atom, component] in an array that says
    [component, atom]."""
    if quantity == "full.force":
        return np.reshape(value, (n, -1, 3)).transpose(1, 0, 2)
    if quantity == "full.atom_virial":
        return np.reshape(value, (n, -1, 9)).transpose(1, 0, 2)
    return value


def compare(tree: dict, path: Path) -> tuple[dict[str, float], list[str]]:
    """The largest error of each quantity over all frames, and a note for each frame that has to be taken otherwise."""
    check_supported(tree)
    plain, worst, notes = deserialize(tree).eval(), {}, []
    cut = deserialize(tree).eval()
    if hasattr(cut, "descriptor"):
        cut.descriptor = padded(cut.descriptor)
    for name, types, frame in frames(path.stem, path.parent):
        DROPPED.clear()
        TIES.clear()
        ours = predict(cut, frame, types)
        if TIES:
            notes.append(f"{name}: a tie at the edge of the list, not compared")
            continue
        if sum(DROPPED):
            notes.append(f"{name}: padded form")
        else:  # nothing was taken away, so it has to be met as users have it
            ours = predict(plain, frame, types)
        for quantity in sorted(frame.keys() & ours.keys()):
            theirs = stored(quantity, frame[quantity], len(types))
            if quantity.startswith("full.") and np.size(theirs) != np.size(ours[quantity]):
                continue  # the peer has no such derivative
            error = float(np.abs(np.ravel(ours[quantity]) - np.ravel(theirs)).max())
            worst[quantity] = max(worst.get(quantity, 0.0), error)
    return worst, notes


def files(folders: list[Path]) -> Iterator[Path]:
    """Predictions that have a model beside them."""
    for folder in folders:
        yield from (path for path in sorted(folder.glob("*.npz")) if path.with_suffix(".dp").is_file())


def main(folders: list[Path]) -> None:
    """Prints the table."""
    for path in files(folders):
        try:
            worst, notes = compare(read_tree(path.with_suffix(".dp")), path)
        except Exception as error:
            print(f"{path.stem:16} refused: {error}")
            continue
        note = f"   ({'; '.join(notes)})" if notes else ""
        print(f"{path.stem:16} " + "  ".join(f"{key} {value:.1e}" for key, value in worst.items()) + note, flush=True)


if __name__ == "__main__":
    main([Path(one) for one in sys.argv[1:]] or [FOLDER])
