"""Which weights a training starts from, as the command line says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.errors import InputError


@dataclass
class Origin:
    """One of: fresh, init_model (weights of a checkpoint), restart (everything), init_frz_model, finetune."""

    kind: str = "fresh"
    path: str = ""

    @classmethod
    def from_arguments(cls, args: Any) -> Origin:
        given = [
            (k, getattr(args, k))
            for k in ("init_model", "restart", "init_frz_model", "finetune")
            if getattr(args, k, None)
        ]
        if len(given) > 1:
            names = " and ".join("--" + k.replace("_", "-") for k, _ in given)
            raise InputError(f"dp train: got {names}, expected at most one of them; choose where the weights come from")
        return cls(*given[0]) if given else cls()

    @property
    def has_weights(self) -> bool:
        return self.kind != "fresh"

    @property
    def finetune(self) -> bool:
        return self.kind == "finetune"
