"""The schema as a document: reStructuredText, JSON for DP-GUI, or a JSON schema for editors."""

from __future__ import annotations

import argparse
import json

from deepmd.errors import InputError

from .messages import fail
from .schema import root

OUT_TYPES = ("rst", "json", "json_schema")


def doc(out_type: str = "rst", multi_task: bool = False) -> str:
    """The documentation of input.json as one string."""
    if out_type not in OUT_TYPES:
        fail("out-type", out_type, f"one of {', '.join(OUT_TYPES)}")
    if out_type == "json":
        from dargs import ArgumentEncoder

        return json.dumps(list(root(multi_task).sub_fields.values()), cls=ArgumentEncoder)
    if out_type == "json_schema":
        from dargs.json_schema import generate_json_schema

        return json.dumps(generate_json_schema(root(multi_task)), indent=2, sort_keys=True)
    sections = root(multi_task).sub_fields.values()
    return "\n\n".join(section.gen_doc(make_anchor=True, make_link=True) for section in sections)


def gui(port: int = 6042, bind_all: bool = False) -> None:
    """Serve DP-GUI, which finds the schema through the entry points `dpgui`."""
    try:
        from dpgui import start_dpgui
    except ImportError:
        raise InputError("dp gui: the package dpgui is not installed; run `pip install dpgui`") from None
    start_dpgui(port=port, bind_all=bind_all)


def doc_command(args: argparse.Namespace) -> None:
    """`dp doc-train-input`: print the documentation."""
    print(doc(args.out_type, args.multi_task))


def gui_command(args: argparse.Namespace) -> None:
    """`dp gui`: serve the page until it is interrupted."""
    gui(args.port, args.bind_all)
