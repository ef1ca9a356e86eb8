"""A training run of several tasks: one optimiser, one task drawn for each step."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import torch

from deepmd.config.multi_task import Link, links_of, tasks_of
from deepmd.data import System, stat_file
from deepmd.data.output_bias import set_output_bias
from deepmd.errors import InputError, ModelError
from deepmd.train import assemble, checkpoint, device
from deepmd.train.files import write_json
from deepmd.train.origin import RANDOM, Origin
from deepmd.train.processes import Processes, lr_factor
from deepmd.train.progress import LearningCurve, Progress, column_groups, column_values
from deepmd.train.schedule import schedule
from deepmd.train.sharing import groups, number_cases, share, shared_statistics
from deepmd.train.start import adopt, transfer
from deepmd.train.trainer import Setup, Trainer

log = logging.getLogger(__name__)
DRAWS = 977
"""Marks the stream of random numbers that the tasks are drawn from, beside those of the frames."""


def run(jdata: dict[str, Any], args: Any, origin: Origin, group: Processes) -> None:
    """Trains from a normalised input of several tasks."""
    tasks = tasks_of(jdata)
    links = [link for task in tasks for link in links_of(jdata["model"], task)]
    data = {task: _open(one) for task, one in tasks.items()}
    for task, parts in data.items() if getattr(args, "check_data", True) and group.is_first else ():
        if not assemble.has_absent_atoms(tasks[task]["model"]):
            assemble.check_data([system for part in parts for system in part or []])
    distances: dict[str, float | None] = {}
    if group.is_first:
        distances = _settle(tasks, data, links, bool(getattr(args, "skip_neighbor_stat", False)))
        write_json(getattr(args, "output", None) or "out.json", jdata)
    distances, settled = group.share((distances, {task: one["model"] for task, one in tasks.items()}))
    for task, section in settled.items():
        tasks[task]["model"] = section
    assemble.set_threads()
    trainer = build(jdata, tasks, data, origin, group)
    for task, distance in distances.items():
        if distance is not None:
            trainer.tasks[task].setup.model.min_pair_distance = distance
    if origin.kind == "restart":
        trainer.resume(checkpoint.load(checkpoint.find_checkpoint(origin.path)))
    assemble.make_room(trainer, origin)
    clock = trainer.setup
    n_parameters = sum(p.numel() for p in clock.model.parameters() if p.requires_grad)
    log.info("training %d parameters of %d tasks for %d steps from step %d",
             n_parameters, len(tasks), clock.numb_steps, clock.step)  # fmt: skip
    assemble.tell_how(clock)
    trainer.run()
    if clock.section.get("change_bias_after_training"):
        for one in trainer.tasks.values():
            device.to_host(one.setup, assemble.make_engine)
        for task, one in trainer.tasks.items() if group.is_first else ():
            setup = one.setup
            assemble.retarget_bias(setup.model, setup.engine, assemble.sample(setup.training, tasks[task]["model"]))
        group.spread(clock.model)
        trainer.save()
    assemble.finish(clock, clock.section)


def _open(jdata: dict[str, Any]) -> tuple[list[System], list[System] | None]:
    section, names = jdata["training"], jdata["model"]["type_map"]
    valid = section.get("validation_data")
    training = assemble.open_systems(section["training_data"], names)
    return training, assemble.open_systems(valid, names) if valid else None


def _settle(
    tasks: dict[str, Any], data: dict[str, Any], links: list[Link], skip: bool
) -> dict[str, float | None]:
    """`sel: auto`, where a shared descriptor takes the data of all its tasks; the shortest distance of each task."""
    together = {task: {task} for task in tasks}
    for group in groups(links):
        if group[0].item == "descriptor":
            for link in group:
                together[link.task] |= {other.task for other in group}
    found = {}
    for task, jdata in tasks.items():
        systems = [system for other in together[task] for part in data[other] for system in part or []]
        found[task] = assemble.settle_sel(jdata["model"], systems, skip)
    return found


def build(
    jdata: dict[str, Any], tasks: dict[str, Any], data: dict[str, Any], origin: Origin, group: Processes
) -> MultiTrainer:
    """Models with shared parts, statistics or weights, and what draws and trains them."""
    seed = jdata["training"].get("seed")
    torch.manual_seed(seed if isinstance(seed, int) else 0)
    parts = {}
    for k, (task, one) in enumerate(tasks.items()):
        seeds = (None, None) if seed is None else ([seed, 2 * k], [seed, 2 * k + 1])
        parts[task] = assemble.open_task(one, *data[task], seeds)
    models = {task: part[0] for task, part in parts.items()}
    share(models, [link for task in tasks for link in links_of(jdata["model"], task)])
    number_cases(models)
    n_systems = {task: len(part[2].sampler.systems) for task, part in parts.items()}
    samplers = {task: part[2].sampler for task, part in parts.items()}
    n_steps, weights = _length(jdata["training"], samplers, n_systems, group.n)
    together = torch.nn.ModuleList(models.values())
    if (not origin.has_weights or origin.finetune) and group.is_first:
        batches = {task: assemble.sample(part[2], tasks[task]["model"]) for task, part in parts.items()}
        start_statistics(models, batches, tasks, weights)
    moved = take_weights(origin, models, jdata["model"]["model_dict"])
    group.spread(together)
    states = payload_states(origin)
    places = {}
    for task, (model, loss, training, validation) in parts.items():
        engine = assemble.make_engine(model, loss.needs_hessian)
        if task in moved and group.is_first:
            assemble.retarget_bias(model, engine, batches[task])
        given = [source for source in (training, validation) if source is not None]
        for source in given:
            group.spread_sampler(source.sampler)
        places[task] = device.Task(model, engine, loss, given, task, states.get(task, []))
    if moved:
        group.spread(together)
    place = device.settle(together, list(places.values()), group)
    rates = schedule(jdata["learning_rate"], n_steps)
    optimizer = assemble.make_optimizer(together, jdata.get("optimizer") or {}, rates.lr(0), n_steps)
    factor = lr_factor(jdata["learning_rate"].get("scale_by_worker", "linear"), group.n)
    setups = {}
    for task, (model, loss, training, validation) in parts.items():
        setups[task] = Setup(model, places[task].engine, loss, rates, optimizer, training, validation,
                             tasks[task]["training"], n_steps, tasks[task], 0, group, "", factor)  # fmt: skip
    first = next(iter(setups.values()))
    clock = Setup(together, first.engine, first.loss, rates, optimizer, first.training, None,
                  jdata["training"], n_steps, jdata, 0, group, place, factor)  # fmt: skip
    return MultiTrainer(clock, setups, weights)


def payload_states(origin: Origin) -> dict[str, list[dict[str, Any]]]:
    """By task what the engines of the run that goes on kept, if one does."""
    if origin.kind != "restart" or device.wanted() is None:  # states are for a device alone
        return {}
    payload = checkpoint.load(checkpoint.find_checkpoint(origin.path))
    return {task: assemble.engine_states(own) for task, own in payload["tasks"].items()}


def sharers(models: dict[str, Any], task: str) -> list[list[str]]:
    """For each place where the task keeps input statistics, the tasks that keep theirs in the same one."""
    places = {other: {id(one) for one in stat_file.environments(model)} for other, model in models.items()}
    own = stat_file.environments(models[task])
    return [sorted(other for other in places if id(one) in places[other]) for one in own]


def start_statistics(models: dict[str, Any], batches: dict[str, Any], tasks: dict[str, Any], weights: Any) -> None:
    """Statistics and biases of all tasks, from their files of statistics if those hold all of them, else from data."""
    paths = {task: jdata["training"].get("stat_file") for task, jdata in tasks.items()}
    shared = {task: [task, sorted(weights.items()), sharers(models, task)] for task in models}
    if all(paths[task] and stat_file.load(paths[task], model, shared[task]) for task, model in models.items()):
        log.info("input statistics and energy bias from %s", ", ".join(dict.fromkeys(paths.values())))
        return
    protect = float(next(iter(tasks.values()))["model"].get("data_stat_protect", 1e-2))
    shared_statistics(models, batches, protect, weights)
    for task, model in models.items():
        set_output_bias(model, batches[task])
        if paths[task]:
            stat_file.save(paths[task], model, shared[task])


def _length(
    section: dict[str, Any], samplers: dict[str, Any], n_systems: dict[str, int], n_processes: int
) -> tuple[int, dict]:
    """Number of steps, and the probability of each task."""
    epochs, given = section.get("num_epoch_dict"), section.get("model_prob")
    if epochs:
        steps = {task: sampler.epoch_steps(float(epochs[task])) for task, sampler in samplers.items()}
        weights: dict[str, float] = {task: float(n) for task, n in steps.items()}
        n_steps = -(-sum(steps.values()) // n_processes)
        log.info("num_epoch_dict -> %d steps (%s)", n_steps, ", ".join(f"{t} {n}" for t, n in steps.items()))
    else:
        weights = {task: given.get(task, 0.0) if given else float(n) for task, n in n_systems.items()}
        if section.get("numb_steps") is None:
            raise InputError("training/numb_epoch: got epochs, expected numb_steps or num_epoch_dict for several tasks")
        n_steps = int(section["numb_steps"])
    total = sum(weights.values())
    weights = {task: weight / total for task, weight in weights.items()}
    log.info("probability of each task: %s", ", ".join(f"{task} {weight:.4f}" for task, weight in weights.items()))
    return n_steps, weights


def take_weights(origin: Origin, models: dict[str, Any], branches: dict[str, Any]) -> set[str]:
    """Copies weights of a checkpoint into the models; the tasks whose bias has to move to the new data.

    Fine-tuning: `finetune_head` names the task that a new one starts from; a task that the checkpoint has too goes on
    as it was, and any other one takes the descriptor of the first with a new fitting net.
    """
    if not origin.has_weights:
        return set()
    if origin.kind == "init_frz_model" or origin.branch:
        option = "--model-branch" if origin.branch else "--init-frz-model"
        raise InputError(f"dp train: got {option} for an input of several tasks; use finetune_head in model/model_dict")
    payload = checkpoint.load(checkpoint.find_checkpoint(origin.path))
    old = payload.get("tasks") or {"": payload}
    sources = {task: checkpoint.model_of({**payload, **own}) for task, own in old.items()}
    if not origin.finetune:
        if set(old) != set(models):
            raise ModelError(
                f"{origin.path}: it holds the tasks {', '.join(old) or 'of a single model'}, the input has "
                f"{', '.join(models)}; expected the same; use --finetune for others"
            )
        for task, model in models.items():
            transfer(sources[task], model, f"{origin.path} ({task})")
        return set()
    moved = set()
    for task, model in models.items():
        head = branches[task].get("finetune_head") or (task if task in sources else RANDOM)
        if head != RANDOM and head not in sources:
            raise ModelError(
                f"{origin.path}: it has no task '{head}', as model/model_dict/{task}/finetune_head says; expected one "
                f"of {', '.join(sources)} or {RANDOM}"
            )
        source = sources[head] if head != RANDOM else next(iter(sources.values()))
        adopt(source, model, f"{origin.path} ({head})", head == RANDOM)
        log.info("task %s starts from %s", task, head)
        if branches[task].get("finetune_head") not in (None, RANDOM):
            moved.add(task)
    return moved


class MultiTrainer(Trainer):
    """Runs steps of several tasks; each step belongs to one, drawn by its probability.

    setup: step, schedule, optimiser and section that all share; its model holds the models of all tasks.
    """

    def __init__(self, setup: Setup, setups: dict[str, Setup], weights: dict[str, float]):
        super().__init__(setup)
        self.tasks = {task: Trainer(own) for task, own in setups.items()}
        self.limits = np.cumsum([weights[task] for task in self.tasks])
        seed = setup.section.get("seed")
        words = np.random.SeedSequence(None if seed is None else [int(seed) % 2**64, DRAWS])
        self.rng = np.random.Generator(np.random.PCG64(words))
        self.rng.bit_generator.state = self.group.share(self.rng.bit_generator.state)

    def _one(self, curve: LearningCurve | None, progress: Progress) -> None:
        setup = self.setup
        lr = setup.schedule.lr(setup.step)
        draw = int(np.searchsorted(self.limits, self.rng.random() * self.limits[-1], side="right"))
        chosen = list(self.tasks)[min(draw, len(self.tasks) - 1)]
        own = self.tasks[chosen]
        own.setup.step, own._saved_step, own._previous = setup.step, self._saved_step, self._previous
        batch, step = own.setup.training.next(self.group), setup.step + 1
        done = own.take_step(batch, lr, self.looks(step))
        setup.step, self._previous = step, own._previous
        if self.looks(step):
            self.finish_steps()
        if self.shows(setup.step):
            values = {}
            for task, one in self.tasks.items():
                training = own.shown(*done[-1]) if task == chosen else one.measure(lr)
                validation = one.validate(lr) if one.setup.validation is not None else None
                values |= column_values(training, validation, task)
                progress.display(setup.step, training, validation, lr, task)
                one.setup.engine.settle()
            if curve is not None:
                curve.write(setup.step, values, lr)
            progress.display_time(setup.step)
        if setup.step % self.save_freq == 0 or setup.step == setup.numb_steps:
            self.save()
        progress.advance()

    def begin(self) -> None:
        bad = None
        for one in self.tasks.values():
            one.begin(bad)
            bad = one.whole and one.whole.steps.bad

    def finish_steps(self) -> list[tuple[dict[str, float], int]]:
        for one in self.tasks.values():
            one.finish_steps()
        return []

    def columns(self) -> list[list[str]]:
        found = []
        for task, one in self.tasks.items():
            found += column_groups(one.setup.loss.reported, one.setup.validation is not None, task)
        return found

    def payload(self) -> dict[str, Any]:
        for one in self.tasks.values():
            one.setup.step = self.setup.step
        return {
            "tasks": {task: one.state() for task, one in self.tasks.items()},
            "input": json.dumps(self.setup.input_script),
            "optimizer": self.setup.optimizer.state_dict(),
            "step": self.setup.step,
            "rng": torch.get_rng_state(),
            "draws": json.dumps(self.rng.bit_generator.state),
        }

    def resume(self, payload: dict[str, Any]) -> None:
        setup = self.setup
        setup.optimizer.load_state_dict(payload["optimizer"])
        setup.step = self._saved_step = int(payload["step"])
        for task, one in self.tasks.items():
            one.resume_task(payload["tasks"][task])
        self.rng.bit_generator.state = json.loads(payload["draws"])
        torch.set_rng_state(payload["rng"])
