"""se_atten_v2: se_atten with stripped type embedding in its smooth form."""

from __future__ import annotations

from dargs import Argument

from .se_atten import check, common_arguments, sel_entries

__all__ = ["argument", "check", "sel_entries"]


def argument() -> Argument:
    """The schema of `model/descriptor` when its type is se_atten_v2."""
    return Argument(
        "se_atten_v2",
        dict,
        common_arguments(False),
        doc="se_atten whose types enter by a second net that multiplies, smooth at the cutoff.",
    )
