"""What the loss asks of the data: which systems lack a label, told before the first step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from deepmd.data.system import System
from deepmd.errors import DataError
from deepmd.keys import field

log = logging.getLogger(__name__)
MOST_NAMES = 5  # systems that a line of the log names


def terms_of(loss: Any) -> list[tuple[str, ...]]:
    """The labels of each term of the loss that counts."""
    if isinstance(getattr(loss, "names", None), dict) and all(isinstance(v, tuple) for v in loss.names.values()):
        return [tuple(loss.names[k]) for k in loss.terms]
    return [(label,) for label in loss.labels if label != "atomic_weight"]


def tell_missing(systems: Sequence[System], loss: Any, where: str, must: bool) -> None:
    """Logs which systems lack which label: their frames do not count in the terms that need it.

    where: the section that names the systems. must: raises DataError where no term has its labels in any system.
    """
    terms = terms_of(loss)
    for label in dict.fromkeys(label for term in terms for label in term):
        lacking = {system.name: len(system.sets_without(label)) for system in systems}
        names = [name + _part(n, name, systems) for name, n in lacking.items() if n]
        if names:
            more = [f"and {len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
            listed = ", ".join(names[:MOST_NAMES] + more)
            log.warning(
                "%s: no %s in %d of %d systems (%s); batches with their frames do not count in that term of the loss",
                where, field(label).stem, len(names), len(systems), listed,
            )  # fmt: skip
    some = any(all(system.has(label) for label in term) for term in terms for system in systems)
    if must and terms and not some:
        wanted = ", ".join(dict.fromkeys(field(label).stem for term in terms for label in term))
        raise DataError(
            f"{where}: no system holds a label of the loss ({wanted}), {systems[0].name} among them; "
            "add one of these files"
        )


def _part(n: int, name: str, systems: Sequence[System]) -> str:
    whole = next(len(system.sets) for system in systems if system.name == name)
    return "" if n == whole else f", {n} of {whole} sets"
