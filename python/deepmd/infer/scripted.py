"""Frozen models of the kinds that the core does not run yet, evaluated by their scripted module in this process.

The same questions and the same `evaluate` as `deepmd.core.Model`, for one frame at a time.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from deepmd import model_file
from deepmd.errors import InputError, ModelError


def refuse_other_paths(file: str | os.PathLike, kind: str, path: str | None, precision: str | None) -> None:
    """Raises ModelError where the caller or the environment asks for what these kinds do not have."""
    for name, value, allowed in (("path", path, ("auto", "script")), ("precision", precision, ("float64",))):
        wish = value or os.environ.get(f"DEEPMD_{name.upper()}") or allowed[0]
        if wish not in allowed:
            raise ModelError(
                f"{file}: got the {name} '{wish}', expected {' or '.join(allowed)}, as models of '{kind}' run "
                f"by their script; leave the {name} out",
                "DP_ERROR_UNSUPPORTED",
            )


class ScriptedModel:
    """An open frozen file. Raises ModelError if its self-test fails."""

    def __init__(
        self, file: str | os.PathLike, run_selftest: bool = True, path: str | None = None, precision: str | None = None
    ):
        import torch

        self._path = Path(file)
        self._frozen = model_file.read(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._module = torch.jit.load(io.BytesIO(model_file.verify(file)), map_location="cpu").eval()
        facts = self._frozen.metadata
        self.metadata = json.dumps(facts)
        self.kind: str = facts["kind"]
        self.rcut = float(facts["rcut"])
        self.type_map: list[str] = list(facts["type_map"])
        self.n_types = len(self.type_map)
        self.dim_fparam, self.dim_aparam = int(facts["dim_fparam"]), int(facts["dim_aparam"])
        self.default_fparam = facts.get("default_fparam")
        self.has_default_fparam = self.default_fparam is not None
        self.min_pair_distance = facts.get("min_pair_distance")
        refuse_other_paths(file, self.kind, path, precision)
        self.path_in_use, self.n_outside = "script", 0
        self.path_description = f"script: TorchScript {torch.__version__} in this process, cpu"
        self.output: dict[str, Any] = facts["output"]
        if run_selftest:
            limit, worst = float(facts["selftest"]["tolerance"]), self.selftest()
            if not worst <= limit:
                raise ModelError(
                    f"{file}: the self-test differs by {worst:.1e}, allowed {limit:.1e}; this machine or this version "
                    "of torch computes something else; freeze the model anew here",
                    "DP_ERROR_SELFTEST",
                )

    def evaluate(
        self,
        positions: Any,
        types: Any,
        cell: Any = None,
        *,
        pbc: Any = None,
        fparam: Any = None,
        aparam: Any = None,
        atomic: bool = True,
        derivatives: bool = False,
    ) -> dict[str, np.ndarray]:
        """positions [n, 3], types [n], cell [3, 3] or None; fparam [dim], aparam [n, dim].

        Returns output [width], atom_output [n, width] and, with `derivatives`, forces [width, n, 3] = -d(output)/d(r)
        and virial [width, 3, 3]; with `atomic` also atom_virial [width, n, 3, 3].
        """
        from deepmd.nn.frames import Pairs, find_pairs

        positions = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
        types = np.asarray(types, dtype=np.int64)
        fparam = self.default_fparam if fparam is None and self.dim_fparam else fparam
        pairs: Pairs = find_pairs(positions, cell, self.rcut, pbc)
        return self._of_pairs(pairs, types, (fparam, aparam), derivatives, atomic)

    def _of_pairs(
        self, pairs: Any, types: np.ndarray, parameters: tuple[Any, Any], derivatives: bool, atomic: bool
    ) -> dict[str, np.ndarray]:
        import torch

        from deepmd.nn.frames import arguments, assemble

        inputs = arguments(pairs, types, *parameters)
        if not derivatives:
            with torch.no_grad():
                return self._reduced(self._module.atom_output(*inputs).numpy())
        if not self.output["derivatives"]:
            raise InputError(f"the model predicts '{self.kind}', whose derivatives it does not give; leave them out")
        found = {key: value.detach().numpy() for key, value in self._module(*inputs).items()}
        gradient = found.pop("pair_gradient")
        result = self._reduced(next(iter(found.values())))
        parts = [assemble(pairs, gradient[:, c], len(types)) for c in range(gradient.shape[1])]
        result["forces"] = np.stack([forces for forces, _ in parts])
        result["virial"] = np.stack([virial for _, virial in parts])
        if atomic:
            of_pairs = -np.einsum("pca,pb->pcab", gradient, pairs.vectors)
            result["atom_virial"] = np.zeros((len(parts), len(types), 3, 3))
            for c in range(len(parts)):
                np.add.at(result["atom_virial"][c], pairs.neighbors, of_pairs[:, c])
        return result

    def atom_output(self, vectors: Any, pairs: Any, types: np.ndarray) -> Any:
        """Atomic outputs [n, width], a tensor with a graph back to the tensor `vectors` [n_pairs, 3] of the pairs."""
        from deepmd.nn.frames import arguments

        return self._module.atom_output(vectors, *arguments(pairs, types)[1:])

    def _reduced(self, values: np.ndarray) -> dict[str, np.ndarray]:
        total = values.sum(axis=0)
        if self.output["reduce"] == "mean" and len(values):
            total = total / len(values)
        return {"output": total, "atom_output": values}

    def selftest(self) -> float:
        """Largest difference from the results that were stored when the model was frozen."""
        from deepmd.nn.frames import evaluate, find_pairs

        stored = self._frozen.selftest
        worst = 0.0
        for k in range(int(self._frozen.metadata["selftest"]["n_frames"])):
            frame = model_file.frame_of(stored, k)
            pairs = find_pairs(frame["positions"], frame.get("cell"), self.rcut)
            ours = evaluate(self._module, pairs, frame["types"], *(frame.get(k) for k in ("fparam", "aparam", "spin")))
            for name, value in ours.items():
                difference = np.abs(np.asarray(value) - frame[name]).max(initial=0.0)
                worst = max(worst, float(difference) if np.isfinite(difference) else np.inf)
        return worst
