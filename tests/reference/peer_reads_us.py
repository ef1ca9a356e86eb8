"""Do models that we write give the same numbers in DeePMD-kit? Not part of the tests, as it needs that program.

    python tests/reference/peer_reads_us.py write FOLDER     with this program
    python tests/reference/peer_reads_us.py compare FOLDER   with DeePMD-kit 3.2 and its PyTorch backend

The first writes NAME.dp and our predictions NAME.npz for every small model of tiny_descriptors.py; the second converts,
evaluates and prints the largest difference of each quantity.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

SHAPES = ("skewed", "smaller than the cutoff", "molecule", "outside the cell")
QUANTITIES = ("energy", "forces", "virial", "atom_energy")


def write(folder: Path) -> None:
    """Models and predictions of all small descriptors."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from deepmd.exchange import write_tree
    from deepmd.nn.frames import evaluate, find_pairs
    from reference.tiny_descriptors import SECTIONS, input_of, make_model
    from reference.tiny_models import make_frames

    for number, name in enumerate(SECTIONS):
        model, arrays = make_model(name), {"name": np.array(name)}
        section = input_of(SECTIONS[name])
        tree = {"model": model.serialize(), "model_def_script": section, "backend": "PyTorch", "@variables": {}}
        write_tree(folder / f"m{number:02d}.dp", tree)
        for shape in SHAPES:
            frame = make_frames(seed=11)[shape]
            pairs = find_pairs(frame.positions, frame.cell, model.descriptor.rcut, frame.pbc)
            result = evaluate(model, pairs, frame.types)
            arrays |= {f"{shape}/{key}": result[key] for key in QUANTITIES}
            arrays |= {f"{shape}/positions": frame.positions, f"{shape}/types": frame.types}
            if frame.cell is not None:
                arrays[f"{shape}/cell"] = frame.cell
        np.savez(folder / f"m{number:02d}.npz", **arrays)


def compare(folder: Path) -> None:
    """The largest differences, one line a model."""
    from deepmd.entrypoints.convert_backend import convert_backend
    from deepmd.infer import DeepPot

    for path in sorted(folder.glob("*.npz")):
        data = np.load(path)
        try:
            convert_backend(INPUT=str(path.with_suffix(".dp")), OUTPUT=str(path.with_suffix(".pth")))
            model = DeepPot(str(path.with_suffix(".pth")))
        except Exception as error:
            print(f"{data['name']!s:28} refused: {type(error).__name__}: {str(error)[:150]}")
            continue
        worst = dict.fromkeys(QUANTITIES, 0.0)
        for shape in SHAPES:
            cell = data[f"{shape}/cell"].reshape(1, 9) if f"{shape}/cell" in data else None
            types = data[f"{shape}/types"]
            energy, forces, virial, atomic, _ = model.eval(
                data[f"{shape}/positions"].reshape(1, -1), cell, types, atomic=True
            )
            for key, value in zip(QUANTITIES, (energy, forces, virial, atomic), strict=True):
                difference = np.abs(np.ravel(value) - np.ravel(data[f"{shape}/{key}"])).max()
                worst[key] = max(worst[key], float(difference))
        print(f"{data['name']!s:28} " + "  ".join(f"{key} {value:.1e}" for key, value in worst.items()))


if __name__ == "__main__":
    {"write": write, "compare": compare}[sys.argv[1]](Path(sys.argv[2]))
