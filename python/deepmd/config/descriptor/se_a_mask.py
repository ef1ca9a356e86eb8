"""se_e2_a over all atoms of an open frame, of which a mask says which are there."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from . import shared


def argument() -> Argument:
    """The schema of `model/descriptor` when its type is se_a_mask."""
    doc = "As se_e2_a without cutoff, for open frames of a varying number of atoms."
    sel = Argument("sel", list[int], doc="Largest numbers of atoms by type in a frame; sums are divided by the total.")
    pairs = shared.exclusion_arguments(None)[0]
    fields = [sel, *shared.embedding_arguments(), pairs]
    return Argument("se_a_mask", dict, fields, doc=doc)


def check(section: dict[str, Any], path: str, type_map: list[str]) -> None:
    """What the types alone do not say about this section."""
    shared.check_sel(section["sel"], f"{path}/sel", type_map)
    shared.check_embedding(section, path)
    shared.check_pairs(section["exclude_types"], f"{path}/exclude_types", len(type_map))


def sel_entries(section: dict[str, Any], path: str) -> list[shared.SelEntry]:
    """None that the data could decide."""
    del section, path
    return []
