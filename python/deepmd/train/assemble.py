"""A training run from a normalised input: data, model, statistics, optimiser, steps."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepmd.data import Sampler, System, load_systems, stat_file
from deepmd.data.graph import Batch, GraphCache, room_of_process
from deepmd.data.output_bias import change_bias
from deepmd.data.statistics import set_statistics
from deepmd.errors import DataError, DeepmdError, InputError
from deepmd.infer import second
from deepmd.nn.model import build
from deepmd.nn.modifier import modifier_of, open_modifier
from deepmd.nn.nodes import Nodes
from deepmd.nn.plain import AnyEngine, FrameEngine, OutputEngine, PlainEngine
from deepmd.nn.spin_engine import SpinEngine
from deepmd.train import checkpoint, device
from deepmd.train.files import write_json
from deepmd.train.labels import tell_missing
from deepmd.train.losses import make_loss
from deepmd.train.origin import Origin
from deepmd.train.processes import Processes, lr_factor
from deepmd.train.schedule import schedule
from deepmd.train.sel import resolve_sel
from deepmd.train.start import load_weights
from deepmd.train.trainer import Setup, Source, Trainer

log = logging.getLogger(__name__)
THREAD_VARIABLES = ("DP_INTRA_OP_PARALLELISM_THREADS", "OMP_NUM_THREADS")
PLAIN_VARIABLE = "DEEPMD_PLAIN_TRAINING"
MOST_WARNINGS = 10  # about the data
GUESSED_DISTANCE = 0.6  # Angstrom; where the data were not scanned, the nodes start from here and widen when needed


def run(jdata: dict[str, Any], args: Any, origin: Origin, group: Processes) -> None:
    """Trains from a normalised input."""
    section = jdata["training"]
    type_map = jdata["model"].get("type_map")
    if not type_map:
        raise InputError('model/type_map: got nothing, expected the list of element names, such as ["O", "H"]')
    systems = open_systems(section["training_data"], type_map)
    valid = open_systems(section["validation_data"], type_map) if section.get("validation_data") else None
    distance = None
    if group.is_first:
        if getattr(args, "check_data", True) and not has_absent_atoms(jdata["model"]):
            check_data([*systems, *(valid or [])])
        skip = bool(getattr(args, "skip_neighbor_stat", False))
        distance = settle_sel(jdata["model"], [*systems, *(valid or [])], skip)
        write_json(getattr(args, "output", None) or "out.json", jdata)
    distance, jdata["model"] = group.share((distance, jdata["model"]))
    set_threads()
    setup, payload = assemble(jdata, systems, valid, origin, distance, group)
    trainer = Trainer(setup)
    if payload is not None:
        trainer.resume(payload)
    make_room(trainer, origin)
    tell_how(setup)
    n_parameters = sum(p.numel() for p in setup.model.parameters() if p.requires_grad)
    log.info("training %d parameters for %d steps from step %d", n_parameters, setup.numb_steps, setup.step)
    trainer.run()
    if section.get("change_bias_after_training"):
        device.to_host(setup, make_engine)
        if group.is_first:
            retarget_bias(setup.model, setup.engine, sample(setup.training, jdata["model"]))
        group.spread(setup.model)
        trainer.save()
    finish(setup, section)


def tell_how(setup: Setup) -> None:
    """What does the work, in the log."""
    log.info("%s", setup.place or device.cpu_words())
    if setup.group.n > 1:
        log.info("%d processes: each step takes the mean gradient of %d batches; learning rate times %.4g",
                 setup.group.n, setup.group.n, setup.lr_factor)  # fmt: skip


def make_room(trainer: Trainer, origin: Origin) -> None:
    """Sets aside what another run left under the names of this one, or this one beyond the step it restarts from."""
    trainer.group.agree()  # all have read what they restart from
    if not trainer.group.is_first:
        return
    restart, here = origin.kind == "restart", trainer.prefix.parent.resolve()
    continues = restart and checkpoint.find_checkpoint(origin.path).resolve().parent == here
    curve = [] if continues else [Path(trainer.setup.section["disp_file"])]
    folder = checkpoint.set_aside(trainer.prefix, trainer.setup.step if continues else -1, curve)
    if folder is not None:
        whose = f"of steps after {trainer.setup.step}" if continues else "of an earlier run"
        log.warning("checkpoints %s were in the way and are in %s now; remove it if they are not needed", whose, folder)


def settle_sel(section: dict[str, Any], systems: list[System], skip: bool) -> float | None:
    """`resolve_sel` for every descriptor of the model; the shortest pair distance (Angstrom), None if unknown."""
    if "descriptor" in section:
        return resolve_sel(section, systems, skip)
    type_map = section["type_map"]
    parts = [*section.get("models", []), *(section[key] for key in ("qm_model", "qmmm_model") if key in section)]
    found = [settle_sel({**part, "type_map": type_map}, systems, skip) for part in parts]
    return min((distance for distance in found if distance is not None), default=None)


def assemble(
    jdata: dict[str, Any],
    systems: list[System],
    valid: list[System] | None,
    origin: Origin,
    distance: float | None,
    group: Processes,
) -> tuple[Setup, dict[str, Any] | None]:
    """Model, engine, data and optimiser of a run; and the checkpoint's payload if the run is a restart."""
    section, seed = jdata["training"], jdata["training"].get("seed")
    torch.manual_seed(seed if isinstance(seed, int) else 0)
    seeds = (seed, None if seed is None else [seed, 1])
    model, loss, training, validation = open_task(jdata, systems, valid, seeds)
    if (origin.finetune or not origin.has_weights) and group.is_first:
        start_statistics(model, training, jdata)  # when tuning, for what the old model does not know
    payload = load_weights(origin, model)
    group.spread(model)
    if distance is not None:
        model.min_pair_distance = distance
    engine = make_engine(model, loss.needs_hessian)
    if origin.finetune and not origin.new_fitting:
        if group.is_first:
            retarget_bias(model, engine, sample(training, jdata["model"]))
        group.spread(model)
    for source in (training, validation):
        if source is not None:
            group.spread_sampler(source.sampler)
    given = [source for source in (training, validation) if source is not None]
    task = device.Task(model, engine, loss, given, states=engine_states(payload))
    place = device.settle(model, [task], group)
    total = steps_of(section, training.sampler, group.n)
    rates = schedule(jdata["learning_rate"], total)
    setup = Setup(
        model=model,
        engine=task.engine,
        loss=loss,
        schedule=rates,
        optimizer=make_optimizer(model, jdata.get("optimizer") or {}, rates.lr(0), total),
        training=training,
        validation=validation,
        section=section,
        numb_steps=total,
        input_script=jdata,
        place=place,
        group=group,
        lr_factor=lr_factor(jdata["learning_rate"].get("scale_by_worker", "linear"), group.n),
    )
    return setup, payload


def engine_states(payload: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Those of all processes of the run that goes on, if one does."""
    return [] if payload is None else payload.get("engines") or [payload["engine"]]


def open_task(
    jdata: dict[str, Any], systems: list[System], valid: list[System] | None, seeds: tuple[Any, Any]
) -> tuple[Any, Any, Source, Source | None]:
    """Model with random weights, loss, training and validation data; seeds: of the order of the two."""
    section = jdata["training"]
    model = build(jdata["model"])
    model.modifier = open_modifier(jdata["model"].get("modifier"), model.type_map)
    if model.modifier is not None:
        log.info("taken off the labels, once for each frame: %s", model.modifier.describe())
    closed = [system.name for system in (*systems, *(valid or [])) if system.periodic]
    if model.facts().output.get("open") and closed:
        raise DataError(f"{closed[0]}: it is periodic, and se_a_mask has no cutoff and takes open frames only (nopbc)")
    if "spin" in model.facts().inputs:
        cover_spins(model, [*systems, *(valid or [])])
    loss = make_loss(jdata["loss"], float(jdata["learning_rate"]["start_lr"]), model)
    if loss.needs_hessian:
        if model.modifier is not None:
            raise InputError("loss/start_pref_h: got a term of hessians, expected none, as the modifier gives none")
        second.note(model.section)
    else:
        second.forget(model.section)
    trains = section.get("numb_steps") != 0
    training = open_source(section["training_data"], systems, model, loss, seeds[0], trains)
    if valid is None:
        return model, loss, training, None
    validation = open_source(section["validation_data"], valid, model, loss, seeds[1])
    validation.n_batches = int(section["validation_data"].get("numb_btch", 1))
    return model, loss, training, validation


def cover_spins(model: Any, systems: list[System]) -> None:
    """Tells the model how long the spins of each type are in the data, so that its lists reach far enough."""
    longest = np.zeros(model.n_types)
    for system in systems:
        lacking = system.sets_without("spin")
        if lacking and model.spins_may_lack:
            log.info("%s: there is no spin.npy, so its spins are zero (model/spin/allow_missing_label)", lacking[0])
        elif lacking:
            raise DataError(
                f"{lacking[0]}: there is no spin.npy, which models with spins need; add the file, or set "
                "model/spin/allow_missing_label to true where the spins of such data are zero"
            )
        for k in range(system.n_frames):
            data = system.frames([k], ("spin",))
            real = data["types"][0] >= 0
            np.maximum.at(longest, data["types"][0][real], np.linalg.norm(data["spin"][0][real], axis=1))
    model.cover(torch.from_numpy(longest))


def start_statistics(model: Any, training: Source, jdata: dict[str, Any]) -> None:
    """Input statistics and energy bias, from `stat_file` if it holds those of this model, else from the data."""
    path = jdata["training"].get("stat_file")
    if path and any(hasattr(descriptor, "fill_statistics") for descriptor in model.descriptors()):
        log.warning("training/stat_file: statistics of local frames are not kept; computed anew")
        path = None
    if path and stat_file.load(path, model):
        log.info("input statistics and energy bias from %s", path)
        return
    log.info("computing input statistics and energy bias")
    set_statistics(model, sample(training, jdata["model"]), float(jdata["model"].get("data_stat_protect", 1e-2)))
    if path:
        stat_file.save(path, model)


def set_threads() -> None:
    """Threads of torch from the documented variables; torch's own choice otherwise."""
    for name in THREAD_VARIABLES:
        text = os.environ.get(name, "")
        if text.isdigit() and int(text) > 0:
            torch.set_num_threads(int(text))
            return


def open_systems(section: dict[str, Any], type_map: list[str]) -> list[System]:
    return load_systems(section["systems"], type_map, section.get("rglob_patterns"))


def check_data(systems: list[System]) -> None:
    """Refuses faulty data before the first step, and tells what looks wrong but may be right."""
    from deepmd.data.check import check_systems

    warnings = check_systems(systems).warnings
    for warning in warnings[:MOST_WARNINGS]:
        log.warning("%s", warning)
    if len(warnings) > MOST_WARNINGS:
        log.warning("%d more such lines; `dp check` shows all of them", len(warnings) - MOST_WARNINGS)


def has_absent_atoms(section: dict[str, Any]) -> bool:
    """Whether a mask says which atoms are there: then positions of others may coincide, and data are not searched."""
    absent = (section.get("descriptor") or {}).get("type") == "se_a_mask"
    if absent:
        log.info("the data are not searched for faults, as aparam says which atoms are there")
    return absent


def open_source(
    section: dict[str, Any], systems: list[System], model: Any, loss: Any, seed: Any, trains: bool = True
) -> Source:
    """Systems that know what the model and the loss ask of them, in the order in which they are drawn."""
    facts = model.facts()
    fills: dict[str, Any] = {name: [0.0] for name in loss.widths if facts.kind != "property"}  # labels may be absent
    if facts.default_fparam:
        fills["fparam"] = facts.default_fparam
    widths = {"fparam": facts.dim_fparam, "aparam": facts.dim_aparam, **loss.widths}
    for system in systems:
        system.require(fills=fills or None, selected=facts.output.get("sel_type"), **widths)
    is_validation = "numb_btch" in section
    where = "training/validation_data" if is_validation else "training/training_data"
    must = trains and not is_validation and any(p.requires_grad for p in model.parameters())
    tell_missing(systems, loss, where, must)
    sampler = Sampler(systems, section["batch_size"], section["auto_prob"], section.get("sys_probs"), seed)
    for line in sampler.summary("Validation" if is_validation else "Training").splitlines():
        log.info(line)
    labels = [*loss.labels, *facts.inputs, *(name for name in ("fparam", "aparam") if widths[name])]
    cache = GraphCache(systems, facts.rcut, model.seen_pairs(), labels=labels, modifier=modifier_of(model),
                       room=room_of_process())  # fmt: skip
    return Source(cache, sampler)


def sample(source: Source, section: dict[str, Any]) -> list[Batch]:
    """The first `data_stat_nbatch` batches of every system, in file order."""
    n_batches = int(section.get("data_stat_nbatch", 10))
    batches = []
    for k, system in enumerate(source.sampler.systems):
        size = max(int(source.sampler.batch_sizes[k]), 1)
        for begin in range(0, min(n_batches * size, system.n_frames), size):
            batches.append(source.cache.batch(k, np.arange(begin, min(begin + size, system.n_frames))))
    return batches


def make_engine(model: Any, hessian: bool = False) -> AnyEngine:
    """The fastest engine that serves the model and its loss; `DEEPMD_PLAIN_TRAINING=1` asks for the plain one."""
    if hasattr(model, "energy_of_frames"):
        return FrameEngine(model, hessian)
    plain = hessian or os.environ.get(PLAIN_VARIABLE, "") not in ("", "0")
    nodes = None if plain else Nodes(model, model.min_pair_distance or GUESSED_DISTANCE)
    kind = model.facts().kind
    if kind == "spin":
        engine: AnyEngine = SpinEngine(model, nodes)
    elif kind in ("energy", "masked"):
        engine = PlainEngine(model, hessian, nodes)
    else:
        engine = OutputEngine(model, nodes)
    engine.settle()
    return engine


def retarget_bias(model: Any, engine: AnyEngine, batches: list[Batch]) -> None:
    """Fine-tuning: moves the bias of the types to the new data."""

    def predict(batch: Batch) -> np.ndarray:
        prediction = engine(batch, with_forces=False)
        return (prediction.energy if hasattr(prediction, "energy") else prediction.total).detach().numpy()

    bias = change_bias(model, batches, predict)
    if bias.shape[1] == 1:
        changes = ", ".join(f"{n} {b:+.6f}" for n, b in zip(model.type_map, bias[:, 0], strict=True))
        log.info("bias of the types changed by %s", changes)


def make_optimizer(model: Any, section: dict[str, Any], lr: float, total: int) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters and total == 0:
        return torch.optim.Adam([torch.zeros(0)])
    if not parameters:
        raise InputError("model: nothing to train, every `trainable` is false; set one to true, or use numb_steps 0")
    betas = (float(section.get("adam_beta1", 0.9)), float(section.get("adam_beta2", 0.999)))
    kind = torch.optim.AdamW if section.get("type", "Adam") == "AdamW" else torch.optim.Adam
    return kind(
        parameters, lr=max(lr, 1e-300), betas=betas, weight_decay=float(section.get("weight_decay", 0.0)), fused=True
    )


def steps_of(section: dict[str, Any], sampler: Sampler, n_processes: int = 1) -> int:
    """Number of steps, each of which takes one batch for each process."""
    if section.get("numb_steps") is not None:
        return int(section["numb_steps"])
    steps = -(-sampler.epoch_steps(float(section["numb_epoch"])) // n_processes)
    log.info("numb_epoch %s -> %d steps", section["numb_epoch"], steps)
    return steps


def finish(setup: Setup, section: dict[str, Any]) -> None:
    """After the last step: the plot of the learning curve."""
    from deepmd.plots import learning_curve

    picture = Path(section["disp_file"]).with_suffix(".png")
    if setup.numb_steps > 0 and section.get("disp_training", True) and setup.group.is_first:
        try:
            learning_curve(section["disp_file"], picture)
            log.info("learning curve: %s, %s", section["disp_file"], picture)
        except (DeepmdError, OSError, ImportError) as error:  # a picture is no reason to call a training failed
            log.warning("the learning curve was not drawn: %s", error)
    log.info("finished training; freeze the model with dp freeze")
