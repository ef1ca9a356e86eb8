"""The schema of `training` and of `validating`."""

from __future__ import annotations

from typing import Any

from dargs import Argument

from .descriptor.shared import check_seed
from .grammar import check_auto_prob, check_batch_size
from .messages import fail, missing, require

_SUM_TOLERANCE = 1e-2  # as the sampler, which scales the rest away


def _data_arguments() -> list[Argument]:
    return [
        Argument(
            "systems",
            [list[str], str],
            doc="Folders of data. Each name, alone or in a list, stands for every data system below it.",
        ),
        Argument(
            "rglob_patterns",
            [list[str], None],
            optional=True,
            default=None,
            doc="Patterns of folder names below `systems`, when `systems` is one name: only these are taken.",
        ),
        Argument(
            "batch_size",
            [list[int], int, str],
            optional=True,
            default="auto",
            doc="Frames in a batch: a number, one number per system, `auto:N` (at least N atoms; `auto` is "
            "`auto:32`), `max:N` (at most N atoms, but one frame), `filter:N` (as `max:N`, and larger systems "
            "are left out) or `mixed:N` (N frames of mixed-type data).",
        ),
        Argument(
            "auto_prob",
            str,
            optional=True,
            default="prob_sys_size",
            alias=["auto_prob_style"],
            doc="How often a system is drawn: `prob_uniform`, `prob_sys_size` (in proportion to its batches), or "
            "`prob_sys_size;0:3:0.7;3:5:0.3`, where systems 0 to 2 share 0.7 and systems 3 and 4 share 0.3.",
        ),
        Argument(
            "sys_probs",
            [list[float], None],
            optional=True,
            default=None,
            alias=["sys_weights"],
            doc="Probability of each system, in place of `auto_prob`. Systems with a negative entry share what the "
            "others leave, in proportion to their batches.",
        ),
    ]


def _data(name: str, optional: bool) -> Argument:
    fields = _data_arguments()
    if name == "training_data":
        fields.append(
            Argument("min_pair_dist", float, optional=True, default=0.0, doc="Smallest distance allowed; 0 here.")
        )
        return Argument(name, dict, fields, optional=optional, doc="Data to learn from.")
    fields.append(
        Argument(
            "numb_btch", int, optional=True, default=1, alias=["numb_batch"], doc="Batches averaged at each display."
        )
    )
    return Argument(name, [dict, None], fields, optional=True, default=None, doc="Data to show errors for.")


def _length_arguments() -> list[Argument]:
    return [
        Argument(
            "numb_steps",
            int,
            optional=True,
            alias=["stop_batch", "num_step", "num_steps", "numb_step"],
            doc="Number of steps, one batch each. Give this or `numb_epoch`.",
        ),
        Argument(
            "numb_epoch",
            [float, int],
            optional=True,
            alias=["num_epochs", "num_epoch", "numb_epochs"],
            doc="Number of passes over the data, a fraction included.",
        ),
        Argument("seed", [int, None], optional=True, doc="Seed of the order of frames."),
        Argument(
            "gradient_max_norm",
            [float, None],
            optional=True,
            doc="Longest gradient; a longer one is scaled down. Nothing or 0 means no limit.",
        ),
        Argument(
            "change_bias_after_training",
            bool,
            optional=True,
            default=False,
            doc="Fit the energies of the types once more at the end.",
        ),
    ]


def _file_arguments() -> list[Argument]:
    return [
        Argument("disp_file", str, optional=True, default="lcurve.out", doc="File of the learning curve."),
        Argument("disp_freq", int, optional=True, default=1000, doc="Steps between two rows of the learning curve."),
        Argument("disp_training", bool, optional=True, default=True, doc="Whether the learning curve is written."),
        Argument("time_training", bool, optional=True, default=True, doc="Whether times are logged."),
        Argument("disp_avg", bool, optional=True, default=False,
                 doc="Whether training errors in the learning curve are averages since the line before."),
        Argument("save_freq", int, optional=True, default=1000, doc="Steps between two checkpoints."),
        Argument("save_ckpt", str, optional=True, default="model.ckpt", doc="Beginning of the names of checkpoints."),
        Argument("save_dir", [str, None], optional=True, default=None, doc="Folder of the checkpoints."),
        Argument(
            "max_ckpt_keep", int, optional=True, default=5, doc="Checkpoints kept, the newest; below 1 keeps all."
        ),
        Argument("ckpt_keep_ratio", [float, None], optional=True, default=None,
                 doc="Checkpoints kept as a share of all that the run writes, instead of max_ckpt_keep."),
        Argument(
            "stat_file",
            [str, None],
            optional=True,
            doc="HDF5 file or folder that keeps the statistics of the data for the next run.",
        ),
        Argument("stat_file_mode", str, optional=True, default="update", doc="Use of `stat_file`; 'update' here."),
    ]


def _fixed_arguments() -> list[Argument]:
    """Keys of other programs of this family that change nothing at their defaults, see FIXED."""
    note = "Accepted at its default, which changes nothing."
    idle = "Without effect while what it belongs to is off."
    flags = ("enable_ema", "profiling", "enable_profiler", "tensorboard", "enable_compile", "enable_tf32")
    return [
        *(Argument(name, bool, optional=True, default=False, doc=note) for name in flags),
        Argument("ema_decay", float, optional=True, default=0.999, doc=idle),
        Argument("ema_ckpt_keep", [int, None], optional=True, default=None, doc=idle),
        Argument("profiling_file", str, optional=True, default="timeline.json", doc=idle),
        Argument("tensorboard_log_dir", str, optional=True, default="log", doc=idle),
        Argument("tensorboard_freq", int, optional=True, default=1, doc=idle),
        Argument("acc_freq", int, optional=True, default=1, doc=note),
        Argument("zero_stage", int, optional=True, default=0, doc=note),
        Argument("neighbor_graph_method", str, optional=True, default="auto", doc=note),
    ]


def options() -> list[Argument]:
    """The keys of `training` beside the data."""
    return [*_length_arguments(), *_file_arguments(), *_fixed_arguments()]


def data() -> list[Argument]:
    """training_data and validation_data."""
    return [_data("training_data", optional=False), _data("validation_data", optional=True)]


def argument() -> Argument:
    """The schema of `training`."""
    return Argument("training", dict, [*data(), *options()], doc="Data, length and files of the training.")


def validating() -> Argument:
    """The schema of `validating`, which is accepted while full validation is off."""
    idle = "Without effect while full_validation is false."
    flags = ("full_validation", "ema_full_validation", "compiled_infer", "tf32_infer", "amp_infer")
    fields = [
        *(Argument(name, bool, optional=True, default=False, doc="false here.") for name in flags),
        Argument("validation_freq", int, optional=True, default=5000, doc=idle),
        Argument("save_best", bool, optional=True, default=True, doc=idle),
        Argument("save_best_dir", [str, None], optional=True, default=None, doc=idle),
        Argument("max_best_ckpt", int, optional=True, default=1, doc=idle),
        Argument("validation_metric", str, optional=True, default="E:MAE", doc=idle),
        Argument("full_val_file", str, optional=True, default="val.log", doc=idle),
        Argument("full_val_start", [float, int], optional=True, default=0.5, doc=idle),
    ]
    return Argument("validating", dict, fields, optional=True, doc="Validation on whole data sets.")


def check(section: dict[str, Any], path: str = "training") -> None:
    """Check the values of a section whose types are right."""
    _check_data(section["training_data"], f"{path}/training_data")
    if section["validation_data"] is not None:
        _check_data(section["validation_data"], f"{path}/validation_data")
        batches = section["validation_data"]["numb_btch"]
        require(batches >= 1, f"{path}/validation_data/numb_btch", batches, "a number of batches, 1 or more")
    _check_length(section, path)
    for key in ("disp_freq", "save_freq"):
        require(section[key] >= 1, f"{path}/{key}", section[key], "a number of steps, 1 or more")
    for key in ("disp_file", "save_ckpt"):
        require(bool(section[key].strip()), f"{path}/{key}", section[key], "a file name")
    stat_file, norm = section.get("stat_file"), section.get("gradient_max_norm")
    require(stat_file is None or bool(stat_file.strip()), f"{path}/stat_file", stat_file, "a file name")
    require(norm is None or norm >= 0, f"{path}/gradient_max_norm", norm, "null, 0 or a positive length")
    ratio = section["ckpt_keep_ratio"]
    require(ratio is None or 0 < ratio < 1, f"{path}/ckpt_keep_ratio", ratio, "null or a number between 0 and 1")
    check_seed(section, path)


def _check_length(section: dict[str, Any], path: str) -> None:
    steps, epochs = section.get("numb_steps"), section.get("numb_epoch")
    if steps is not None and epochs is not None:
        fail(f"{path}/numb_epoch", epochs, f"one of numb_epoch and numb_steps ({steps})", "keep one of the two")
    if steps is None and epochs is None:
        missing(f"{path}/numb_steps", "a number of steps", "add numb_steps or numb_epoch")
    require(steps is None or steps >= 0, f"{path}/numb_steps", steps, "a number of steps, 0 or more")
    require(epochs is None or epochs > 0, f"{path}/numb_epoch", epochs, "a positive number of epochs")


def _check_data(section: dict[str, Any], path: str) -> None:
    systems = section["systems"]
    require(len(systems) > 0, f"{path}/systems", systems, "the path of a data folder, or a list of paths")
    for index, one in enumerate(systems if isinstance(systems, list) else []):
        require(bool(one.strip()), f"{path}/systems[{index}]", one, "the path of a data folder")
    patterns = section["rglob_patterns"]
    require(
        patterns is None or isinstance(systems, str),
        f"{path}/rglob_patterns",
        patterns,
        "null, as systems is a list",
        "give systems as one path to use patterns",
    )
    _check_batches(section["batch_size"], systems, f"{path}/batch_size")
    check_auto_prob(section["auto_prob"], f"{path}/auto_prob")
    if section["sys_probs"] is not None:
        _check_probabilities(section["sys_probs"], systems, f"{path}/sys_probs")


def _check_batches(batch_size: Any, systems: list[str] | str, path: str) -> None:
    if not isinstance(batch_size, list):
        check_batch_size(batch_size, path)
        return
    _check_count(batch_size, systems, path)
    for index, one in enumerate(batch_size):
        check_batch_size(one, f"{path}[{index}]")


def _check_probabilities(values: list[float], systems: list[str] | str, path: str) -> None:
    _check_count(values, systems, path)
    total, rest = sum(one for one in values if one >= 0), any(one < 0 for one in values)
    require(
        total <= 1 + _SUM_TOLERANCE and (rest or total >= 1 - _SUM_TOLERANCE),
        path,
        values,
        "probabilities that add up to 1",
        f"they add up to {total:g}; a negative entry takes a share of what is left",
    )


def _check_count(values: list[Any], systems: list[str] | str, path: str) -> None:
    """A list needs one entry per system; names can stand for several systems, so only too few is an error here."""
    least = 1 if isinstance(systems, str) else len(systems)
    require(len(values) >= least, path, values, f"one entry per system, and systems lists {least}")
