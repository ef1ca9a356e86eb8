"""What all inference classes share: opening a model, asking about it, running frames through the core."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from deepmd.errors import InputError, ModelError
from deepmd.infer.opening import OUTPUT_KINDS, find_model, open_model
from deepmd.infer.shapes import Frames, arrange, spread_aparam, spread_fparam

log = logging.getLogger(__name__)
EXTENSIONS = ("spin", "charge_spin", "efield", "hessian")  # inputs of other kinds of models


class DeepEval:
    """A model file, opened. ``DeepEval(path)`` returns the class that fits the kind of the model (see `DeepPot`).

    Parameters
    ----------
    model_file
        A frozen model (.pth). Checkpoints (.pt) and .dp/.yaml files are frozen into a temporary file first.
    auto_batch_size
        Accepted for compatibility: frames are evaluated one after the other, in little memory.
    neighbor_list, nlist_backend
        Accepted for compatibility: the core's linear-time list serves all cells, and results do not depend on the list.
    head
        Branch of a multi-task checkpoint.
    no_jit
        Accepted for compatibility.
    path
        How models are evaluated: "fused" (the engine's own kernels), "cuda" (the same on a GPU), "script"
        (TorchScript), or "auto", cuda or fused where the model allows it. None: as the environment variable
        DEEPMD_PATH says, else "auto".
    precision
        "float64", or "mixed" for float32 tables and networks. None: DEEPMD_PRECISION, else "float64".
    """

    kinds: dict[str, type[DeepEval]] = {}
    kind: str | None = None
    other_kinds: tuple[str, ...] = ()  # that the same class serves
    extra_inputs: tuple[str, ...] = ()  # fields of atoms that `eval` needs beside the parameters

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("kind") is not None:
            for kind in (cls.kind, *cls.other_kinds):
                DeepEval.kinds.setdefault(kind, cls)

    def __new__(cls, model_file: str | os.PathLike, *args: Any, **kwargs: Any) -> DeepEval:
        if cls is DeepEval:
            import deepmd.infer  # noqa: F401 registers the classes

            kind = model_kind(model_file, kwargs.get("head"))
            if kind not in DeepEval.kinds:
                raise ModelError(f"{model_file}: the model predicts '{kind}'; known: {', '.join(DeepEval.kinds)}")
            cls = DeepEval.kinds[kind]
        return super().__new__(cls)

    def __init__(
        self,
        model_file: str | os.PathLike,
        auto_batch_size: bool | int | Any = True,
        neighbor_list: Any = None,
        head: str | None = None,
        no_jit: bool = False,
        nlist_backend: str = "auto",
        path: str | None = None,
        precision: str | None = None,
    ) -> None:
        self.model_path = find_model(model_file)
        self._head = head
        self._choice = {"path": path, "precision": precision}
        self._core = open_model(self.model_path, head, **self._choice)
        self._lock = threading.Lock()
        self._has_warned = False
        log.info("%s: %s", self.model_path, self._core.path_description)
        if self.kind is not None and self._core.kind not in (self.kind, *self.other_kinds):
            raise ModelError(f"{model_file}: the model predicts '{self._core.kind}', expected '{self.kind}'")
        self.metadata: dict[str, Any] = json.loads(self._core.metadata)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies, and other processes, open the file anew.
        options = (False, "auto", self._choice["path"], self._choice["precision"])
        return type(self), (str(self.model_path), True, None, self._head, *options)

    # ------------------------------------------------------------------------------------------------- questions

    def get_rcut(self) -> float:
        """Cutoff radius, Angstrom."""
        return float(self._core.rcut)

    def get_ntypes(self) -> int:
        """Number of atom types."""
        return int(self._core.n_types)

    def get_type_map(self) -> list[str]:
        """Element names in the order of the model's type indices."""
        return list(self._core.type_map)

    def get_dim_fparam(self) -> int:
        """Number of frame parameters."""
        return int(self._core.dim_fparam)

    def get_dim_aparam(self) -> int:
        """Number of parameters of each atom."""
        return int(self._core.dim_aparam)

    def has_default_fparam(self) -> bool:
        """Whether frame parameters may be left out."""
        return bool(self._core.has_default_fparam)

    def get_path(self) -> str:
        """One line on how the model is evaluated: path, tolerance of tables, precision, threads, memory per atom."""
        return str(self._core.path_description)

    def get_sel(self) -> list[int]:
        """The numbers of slots in the model's normalisation; they limit nothing."""
        return list(self.metadata["sel"])

    def get_sel_type(self) -> list[int]:
        """Selected types of atomic tensors; empty for energy models."""
        return []

    def get_ntypes_spin(self) -> int:
        """Number of magnetic types."""
        return 0

    @property
    def has_efield(self) -> bool:
        return False

    @property
    def has_spin(self) -> bool:
        return False

    @property
    def has_hessian(self) -> bool:
        return False

    def get_model_def_script(self) -> dict[str, Any]:
        """The model section of the training input."""
        return self.metadata["model_def_script"]

    def serialize(self) -> dict[str, Any]:
        """The neutral tree of the model, with arrays under ``@variables``."""
        from deepmd.exchange import load_tree

        return load_tree(self.model_path, self._head)

    def get_model_size(self) -> dict[str, int]:
        """Number of stored parameters: descriptor, fitting-net and total."""
        from deepmd.show import parameter_counts

        return parameter_counts(self.serialize())

    def get_observed_types(self) -> dict[str, Any]:
        """Elements that the training data held (all of the type map where the file does not tell)."""
        info = self.get_model_def_script().get("info") or {}
        observed = list(info.get("observed_type") or self.get_type_map())
        return {"type_num": len(observed), "observed_type": observed}

    # ------------------------------------------------------------------------------------------------ evaluation

    @property
    def core(self) -> Any:
        """The `deepmd.core.Model` behind it."""
        return self._core

    def frames(self, coords: Any, cells: Any, atom_types: Any, mixed_type: bool, fparam: Any, aparam: Any) -> Frames:
        """The frames and parameters of a call in one form, checked against the model; for the shapes see `DeepPot`."""
        frames = arrange(coords, cells, atom_types, mixed_type)
        n_types = self.get_ntypes()
        if frames.types.size and (frames.types.max() >= n_types or frames.types.min() < -1):
            worst = frames.types.max() if frames.types.max() >= n_types else frames.types.min()
            raise InputError(
                f"atom_types holds {worst}, expected indices 0 to {n_types - 1} of {' '.join(self.get_type_map())}"
            )
        n_frames, n_atoms = frames.types.shape
        frames.fparam = spread_fparam(fparam, n_frames, self.get_dim_fparam())
        frames.aparam = spread_aparam(aparam, n_frames, n_atoms, self.get_dim_aparam())
        if fparam is None and self.get_dim_fparam() and not self.has_default_fparam():
            raise InputError(f"the model needs fparam ({self.get_dim_fparam()} numbers a frame) and got none")
        if aparam is None and self.get_dim_aparam():
            raise InputError(f"the model needs aparam ({self.get_dim_aparam()} numbers an atom) and got none")
        return frames

    def _evaluate(self, frames: Frames, atomic: bool, pbc: Any = None) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """The core's results of each frame, without padding atoms, and the mask of real atoms."""
        for arguments, real in frames:
            yield self.evaluate_frame(**arguments, pbc=pbc, atomic=atomic), real

    def evaluate_frame(self, positions: Any, types: Any, cell: Any = None, **options: Any) -> dict[str, Any]:
        """One frame as named arrays: energy, forces [n, 3], virial [3, 3], with atomic also atom_energy, atom_virial.

        options: pbc, fparam, aparam, atomic, and neighbors, a `deepmd.core.Neighbors` whose list is used again.
        """
        with self._lock:  # a model serves one thread at a time
            ask = self._core.evaluate_output if self._core.kind in OUTPUT_KINDS else self._core.evaluate
            result = ask(positions, types, cell, **options)
            n_outside = 0 if self._has_warned else self._core.n_outside
        if n_outside > 0:
            self._has_warned = True
            log.warning(
                "%s: %d pairs of atoms or couples of neighbours are outside of the range of the embedding's table; the "
                "network itself answers for them, and this is not reported again",
                self.model_path,
                n_outside,
            )
        return result


def DeepPotential(*args: Any, **kwargs: Any) -> DeepEval:  # noqa: N802 the established name
    """The class that fits the kind of the model, opened."""
    return DeepEval(*args, **kwargs)


def model_kind(model_file: str | os.PathLike, head: str | None = None) -> str:
    """What a model predicts, such as 'energy'."""
    path = find_model(model_file)
    from deepmd.infer.opening import needs_freezing, trained_model

    if not needs_freezing(path):
        from deepmd.model_file import read

        return read(path).metadata["kind"]

    return trained_model(path, head).facts().kind


def refuse_extensions(kwargs: dict[str, Any]) -> None:
    """Raises for inputs that the model could only ignore, and for misspelt names."""
    for name, value in kwargs.items():
        if name == "hessian" and value is not None:
            raise InputError("hessian was given, but the model does not give it; leave it out")
        if name not in EXTENSIONS:
            raise TypeError(f"eval() got an unexpected keyword argument '{name}'")
        if value is not None:
            raise InputError(f"{name} was given, but the model does not take it; leave it out")
