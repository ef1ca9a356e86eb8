"""What a model tells about itself beside its `forward`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Facts:
    """The numbers that evaluation, freezing and training need of any model."""

    kind: str  # "energy", "dipole", "polar", "dos", "property", "spin"
    rcut: float  # Angstrom
    rcut_smth: float  # Angstrom
    sel: list[int]
    dim_fparam: int = 0
    dim_aparam: int = 0
    default_fparam: list[float] | None = None
    precision: str = "float64"
    passes_messages: bool = False
    """Whether atoms tell each other what they know, so that a call needs whole frames."""
    receptive_field: float = 0.0
    """How far the surroundings reach that an atom's output depends on, Angstrom; 0 stands for rcut."""
    output: dict[str, Any] = field(default_factory=dict)
    """Models of other kinds than energy: name, width, reduce ("sum" or "mean"), derivatives (bool), sel_type."""
    inputs: tuple[str, ...] = ()
    """Fields of atoms that the model needs beside positions, types and parameters."""
