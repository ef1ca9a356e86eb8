"""Parts that several tasks have in common: the same modules in several models, with statistics of all their data."""

from __future__ import annotations

from typing import Any

import torch

from deepmd.config.multi_task import Link
from deepmd.data.graph import Batch
from deepmd.data.statistics import fill_parameters, moments, row_batches, set_from_moments
from deepmd.errors import InputError
from deepmd.nn.type_embedding import TypeEmbedding

PARAMETERS = ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")
Weighed = list[tuple[float, list[Batch]]]
"""Probability and sampled batches of tasks."""


def share(models: dict[str, Any], links: list[Link]) -> None:
    """Puts the part of the first task in the place of those of the others that refer to it (in place)."""
    for group in groups(links):
        whole = [link for link in group if link.level == 0]
        first = models[(whole or group)[0].task]
        for link in group:
            model = models[link.task]
            if model is first:
                continue
            if link.item == "fitting_net":
                _share_fitting(first.fitting, model.fitting)
            elif link.level == 0:
                model.descriptor = first.descriptor
            else:
                _share_types(first.descriptor, model.descriptor, link)


def groups(links: list[Link]) -> list[list[Link]]:
    """Links to the same part, descriptors and fitting nets only."""
    found: dict[tuple[str, str], list[Link]] = {}
    for link in links:
        if link.item != "type_map":
            found.setdefault((link.item, link.name), []).append(link)
    return list(found.values())


def _share_fitting(first: Any, other: Any) -> None:
    """The networks and the scales of their parameters; the vector that tells tasks apart stays a task's own."""
    other.networks = first.networks
    for name in PARAMETERS:
        setattr(other, name, getattr(first, name))


def _share_types(first: Any, other: Any, link: Link) -> None:
    vectors = {name: module for name, module in first.named_modules() if isinstance(module, TypeEmbedding)}
    if not vectors:
        raise InputError(
            f"model/model_dict/{link.task}/descriptor: got '{link.name}:{link.level}', expected the level 0, as this "
            "descriptor has no type embedding to share; leave ':1' out"
        )
    for name, module in vectors.items():
        parent, _, last = name.rpartition(".")
        setattr(other.get_submodule(parent), last, module)


def number_cases(models: dict[str, Any]) -> None:
    """The unit vector that tells the fitting nets of the tasks apart, in alphabetical order of their names."""
    for k, task in enumerate(sorted(models)):
        for fitting in models[task].fittings():
            if fitting.dim_case:
                fitting.case_embd.copy_(torch.eye(fitting.dim_case, dtype=torch.float64)[k])


def shared_statistics(models: dict[str, Any], batches: dict[str, list[Batch]], protect: float, weights: Any) -> None:
    """Row and parameter statistics of every part over all tasks that have it, each weighed by its probability."""
    environments: dict[int, tuple[Any, Weighed]] = {}
    fittings: dict[int, tuple[Any, Weighed]] = {}
    for task, model in models.items():
        own = (weights[task], batches[task])
        for descriptor in model.descriptors():
            if hasattr(descriptor, "fill_statistics"):
                raise InputError(
                    f"task '{task}': got the descriptor loc_frame, expected another one, as its statistics are not "
                    "shared between tasks; train it in an input of one task"
                )
            rows = (weights[task], list(row_batches(model, batches[task], descriptor)))
            for environment in descriptor.environments():
                environments.setdefault(id(environment), (environment, []))[1].append(rows)
        for fitting in model.fittings():
            fittings.setdefault(id(fitting.networks), (fitting, []))[1].append(own)
    for environment, weighed in environments.values():
        set_from_moments(environment, sum(_weight(w, weighed) * moments(environment, one) for w, one in weighed))
    for fitting, weighed in fittings.values():
        fill_parameters(fitting, [(_weight(w, weighed), one) for w, one in weighed], protect)


def _weight(probability: float, weighed: Weighed) -> float:
    """1 where a single task has the part, even one that is never drawn."""
    return 1.0 if len(weighed) == 1 else probability
