"""Which weights a training starts from, as the command line says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.errors import InputError

RANDOM = "RANDOM"


@dataclass
class Origin:
    """One of: fresh, init_model (weights of a checkpoint), restart (everything), init_frz_model, finetune."""

    kind: str = "fresh"
    path: str = ""
    branch: str = ""  # of a multi-task model; RANDOM: a new fitting net

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
        branch = getattr(args, "model_branch", None) or ""
        if branch and (not given or given[0][0] != "finetune"):
            raise InputError("dp train: got --model-branch without --finetune; leave it out, or name the model to tune")
        return cls(*given[0], branch) if given else cls()

    @property
    def has_weights(self) -> bool:
        return self.kind != "fresh"

    @property
    def new_fitting(self) -> bool:
        """Whether the fitting net starts anew."""
        return self.branch == RANDOM

    @property
    def finetune(self) -> bool:
        return self.kind == "finetune"
