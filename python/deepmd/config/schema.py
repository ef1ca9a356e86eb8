"""The whole schema of input.json, put together from the sections."""

from __future__ import annotations

from functools import lru_cache

from dargs import Argument

from . import learning_rate, loss, model, optimizer, training


def train_schema() -> list[Argument]:
    """The arguments of input.json for one task, as DP-GUI expects them."""
    return [
        model.argument(),
        learning_rate.argument(),
        optimizer.argument(),
        loss.argument(),
        training.argument(),
        training.validating(),
    ]


def train_schema_multi() -> list[Argument]:
    """The arguments of a multi-task input.json: each task is checked as an input of one, see `multi_task`."""
    branch = model.argument()
    loss_choice = list(loss.argument().sub_variants.values())
    models = Argument(
        "model",
        dict,
        [
            Argument("shared_dict", dict, optional=True, default={}, doc="Parts that several tasks share, by name."),
            Argument(
                "model_dict",
                dict,
                list(branch.sub_fields.values()),
                list(branch.sub_variants.values()),
                repeat=True,
                doc="One model per task; a part can be the name of an entry of `shared_dict`.",
            ),
        ],
        doc="Models of all tasks.",
    )
    losses = Argument("loss_dict", dict, [], loss_choice, repeat=True, optional=True, doc="One loss per task.")
    data = Argument("data_dict", dict, training.data(), repeat=True, doc="One set of data per task.")
    probability = Argument("model_prob", dict, optional=True, doc="How often each task is drawn.")
    epochs = Argument("num_epoch_dict", dict, optional=True, doc="Number of passes over the data of each task.")
    run = Argument("training", dict, [data, probability, epochs, *training.options()], doc="Training of all tasks.")
    return [models, learning_rate.argument(), optimizer.argument(), losses, run, training.validating()]


def root(multi_task: bool = False) -> Argument:
    """The schema as one argument, whose types stand in a fixed order so that documents are reproducible."""
    fields = train_schema_multi() if multi_task else train_schema()
    argument = Argument("input", dict, fields, doc="Input of `dp train`.")
    _sort_types(argument)
    return argument


@lru_cache(maxsize=1)
def single_task() -> Argument:
    """The schema that inputs are checked against."""
    return root()


def _sort_types(argument: Argument) -> None:
    argument.dtype = tuple(sorted(argument.dtype, key=str))
    for field in argument.sub_fields.values():
        _sort_types(field)
    for variant in argument.sub_variants.values():
        for choice in variant.choice_dict.values():
            _sort_types(choice)
