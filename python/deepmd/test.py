"""``dp test``: the errors of a model on labelled data, system by system and averaged."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.errors import DataError, InputError
from deepmd.infer.from_data import iterate
from deepmd.measure import MEASURES
from deepmd.measure.pairs import Collector, Pairs, lines_of

log = logging.getLogger(__name__)

@dataclass
class Options:
    """What is tested and how."""

    n_frames: int = 0  # frames of each system, 0 for all
    shuffle: bool = False
    seed: int | None = None
    atomic: bool = False
    detail_prefix: str | None = None


def test_system(model: Any, system: Any, options: Options) -> dict[str, Pairs]:
    """Labels and predictions of one system (or its first or random ``options.n_frames`` frames)."""
    from tqdm import tqdm

    measure = MEASURES[model.kind]
    indices = choose_frames(system.n_frames, options)
    collector = Collector()
    frames = iterate(system, model, measure.labels(model, options.atomic), indices)
    for frame in tqdm(frames, total=len(indices), unit="frame", disable=None, leave=False):
        measure.measure(model, frame, options.atomic, collector)
    return collector.pairs()


test_system.__test__ = False  # not a test of the test suite


def choose_frames(n_frames: int, options: Options) -> np.ndarray:
    """Which frames are tested, in ascending order."""
    n_chosen = min(options.n_frames, n_frames) if options.n_frames > 0 else n_frames
    if not options.shuffle:
        return np.arange(n_chosen)
    return np.sort(np.random.default_rng(options.seed).permutation(n_frames)[:n_chosen])


def average(results: Sequence[dict[str, Pairs]], keys: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Errors over all systems, weighted by the number of values: mean of MAE, root of the mean square of RMSE."""
    errors = {}
    for key in keys:
        parts = [result[key] for result in results if key in result]
        if parts:
            sizes = np.array([part.size for part in parts], dtype=float)
            mae = np.average([part.mae() for part in parts], weights=sizes)
            errors[key] = (float(mae), float(np.sqrt(np.average([part.rmse() ** 2 for part in parts], weights=sizes))))
    return errors


def find_systems(args: argparse.Namespace, type_map: list[str]) -> list[Any]:
    """The systems that the command line names: -s, -f, --train-data or --valid-data."""
    from deepmd.data import load_systems

    for option, section in (("train_data", "training_data"), ("valid_data", "validation_data")):
        script = getattr(args, option, None)
        if script:
            return load_systems(*systems_of_script(Path(script), section, type_map))
    if getattr(args, "datafile", None):
        try:
            lines = Path(args.datafile).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise InputError(f"{args.datafile}: cannot read the list of systems: {error.strerror}") from error
        names = [line.strip() for line in lines if line.strip()]
        if not names:
            raise InputError(f"{args.datafile} lists no system; expected one path on each line")
        return load_systems(names, type_map)
    return load_systems(args.system, type_map)


def systems_of_script(script: Path, section: str, type_map: list[str]) -> tuple[Any, list[str], Any]:
    """Arguments of `load_systems` for a section of a training input; relative paths start at the input's folder."""
    from deepmd import config

    try:
        data = config.upgrade(config.load_input(script))[0]["training"][section]
        systems = data["systems"]
    except (KeyError, TypeError):
        raise InputError(f"{script}: there is no training/{section}/systems; name the data with -s") from None
    listed = [systems] if isinstance(systems, str) else systems
    paths = [str(script.parent / path) for path in listed]
    return (paths[0] if isinstance(systems, str) else paths), type_map, data.get("rglob_patterns")


def main(args: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """The command. Returns {quantity: (MAE, RMSE)} over all systems."""
    from deepmd.infer import DeepEval

    model = DeepEval(args.model, head=getattr(args, "head", None))
    options = Options(
        getattr(args, "numb_test", 0) or 0, bool(getattr(args, "shuffle_test", False)),
        getattr(args, "rand_seed", None), bool(getattr(args, "atomic", False)), getattr(args, "detail_file", None),
    )  # fmt: skip
    if options.detail_prefix:
        prefix = Path(options.detail_prefix)
        options.detail_prefix = str(prefix / "detail" if prefix.is_dir() else prefix)
        prefix.parent.mkdir(parents=True, exist_ok=True)  # now, not after the evaluation
    measure = MEASURES[model.kind]
    systems = find_systems(args, model.get_type_map())
    results = []
    for k, system in enumerate(systems):
        n_frames = len(choose_frames(system.n_frames, options))
        log.info("# ---------------output of dp test--------------- ")
        log.info("# testing system : %s", system.name)
        result = test_system(model, system, options)
        if not result:
            wanted = ", ".join(measure.labels(model, options.atomic))
            raise DataError(f"{system.name} holds no label to compare with ({wanted}); leave it out")
        log.info("# number of test data : %d ", n_frames)
        report(measure, {key: (pairs.mae(), pairs.rmse()) for key, pairs in result.items()})
        remark = "" if system.mixed else measure.remark(result, system.n_atoms)
        if remark:
            log.info("%s", remark)
        log.info("# ----------------------------------------------- ")
        if options.detail_prefix:
            measure.write_details(options.detail_prefix, str(system.name), result, k)
        results.append(result)
    errors = average(results, measure.quantities)
    log.info("# ----------weighted average of errors----------- ")
    log.info("# number of systems : %d", len(systems))
    report(measure, errors)
    log.info("# ----------------------------------------------- ")
    if measure.footer:
        log.info("%s", measure.footer)
    if getattr(args, "plot", None):
        name = args.plot if isinstance(args.plot, str) else options.detail_prefix or "dp_test"
        draw(results, name, measure.plotted)
    return errors


def report(measure: Any, errors: dict[str, tuple[float, float]]) -> None:
    """Logs the documented lines."""
    for line in lines_of(measure.quantities, errors, measure.label_width):
        log.info("%s", line)


def draw(results: Sequence[dict[str, Pairs]], prefix: str, keys: Iterable[str]) -> None:
    """Parity plot of everything that was tested."""
    from deepmd.plots import parity

    merged = {}
    for key in keys:
        parts = [result[key] for result in results if key in result]
        if parts:
            data, pred = ([getattr(part, name).ravel() for part in parts] for name in ("data", "pred"))
            merged[key] = (np.concatenate(data), np.concatenate(pred))
    path = Path(prefix) if Path(prefix).suffix in (".png", ".pdf", ".svg") else Path(prefix + ".parity.png")
    parity(merged, path)
    log.info("parity plot written to %s", path)
