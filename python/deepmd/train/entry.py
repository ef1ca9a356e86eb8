"""`dp train`: the documented order of work. Heavy modules are loaded only after the input has been found good."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from deepmd import config
from deepmd.train.files import checkpoint_prefix, sole_writer, write_json
from deepmd.train.origin import Origin
from deepmd.train.processes import Processes, processes

log = logging.getLogger(__name__)


def train(args: Any) -> None:
    """The command. args: see `dp train -h`."""
    with processes() as group:
        train_together(args, group)


def train_together(args: Any, group: Processes) -> None:
    """What each of the processes does."""
    origin = Origin.from_arguments(args)
    raw = config.load_input(args.INPUT)
    if getattr(args, "use_pretrain_script", False):
        from deepmd.train.start import use_pretrained_section

        raw = use_pretrained_section(raw, origin)
    current, changes = config.upgrade(raw)
    for change in changes:
        log.warning(change)
    if group.is_first:
        write_json("input_v2_compat.json", current)
    jdata = config.normalise(current)

    if config.is_multi_task(jdata):
        from deepmd.train.tasks import run
    else:
        from deepmd.train.assemble import run
    with sole_writer(checkpoint_prefix(jdata["training"])) if group.is_first else contextlib.nullcontext():
        group.agree()  # nobody begins where process 0 may not write
        run(jdata, args, origin, group)
