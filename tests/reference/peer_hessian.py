"""Second derivatives by DeePMD-kit of its own checkpoints. Not part of the tests, as it needs that program.

    python tests/reference/peer_hessian.py tests/data/checkpoints        with DeePMD-kit 3.2 and PyTorch

Opens the checkpoints in the folder as models that were trained on second derivatives and stores these in hessian.npz.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

NAMES = ("set", "dpa2")  # for se_atten with attention it gives nan


def frame() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Six atoms: positions, cell, types."""
    rng = np.random.default_rng(3)
    cell = np.array([[4.2, 0, 0], [0.6, 4.5, 0], [-0.4, 0.7, 4.8]])
    sites = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:6] / 2.0
    return (sites + rng.normal(0, 0.04, sites.shape)) @ cell, cell, np.arange(6) % 2


def main(folder: Path) -> None:
    import torch
    from deepmd.infer import DeepPot

    positions, cell, types = frame()
    found = {"positions": positions, "cell": cell, "types": types}
    for name in NAMES:
        payload = torch.load(folder / f"{name}.pt", weights_only=True)
        payload.get("model", payload)["_extra_state"]["model_params"]["hessian_mode"] = True
        with tempfile.TemporaryDirectory() as place:
            torch.save(payload, f"{place}/model.pt")
            model = DeepPot(f"{place}/model.pt")
        for kind, box in (("bulk", cell.reshape(1, 9)), ("molecule", None)):
            found[f"{name}.{kind}"] = model.eval(positions[None], box, types)[-1][0]
    np.savez_compressed(folder / "hessian.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
