"""`dp compress`: a frozen model whose embedding networks are replaced by tables, with a stated and measured error.

exact     tables of all outputs of the networks, as coarse as the tolerance allows.
spectral  tables of the few combinations of outputs that matter (`deepmd.spectral`), as few as the tolerance allows.

The file keeps the model and gains a record with the decisions and the error that the engine itself made on frames
that took no part in them; tables are built when the model is opened.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from deepmd import model_file
from deepmd.compress_frames import Errors, Frames, Yardstick, gather, unseen_pairs
from deepmd.errors import DeepmdError, InputError, ModelError

log = logging.getLogger(__name__)

TOLERANCE = {"spectral": 2e-6, "exact": 1e-8}  # eV/Angstrom, largest error of a force component
SAFETY = 2.0  # so many times below the tolerance must the error on the frames at hand be: fresh ones are a little worse
REACH = 0.9  # of the shortest distance seen: where the tables end
SPECTRAL_TABLE = 1e-3  # error of a spectral basis' tables, relative, per eV/Angstrom of tolerance
FORMAT_VERSION = 1
STEPS_PER_DECADE = 4  # of the thresholds on singular values that are tried
DECADES = 12


@dataclass
class Options:
    """What the user may say."""

    exact: bool = False
    tolerance: float | None = None  # eV/Angstrom
    rank: int | None = None  # of every spectral basis; None: chosen by the tolerance
    data: list[str] = field(default_factory=list)
    max_frames: int = 20
    script: dict[str, Any] | None = None  # training script, for its data
    documented: dict[str, Any] = field(default_factory=dict)  # options that are recorded and change nothing

    @property
    def kind(self) -> str:
        return "exact" if self.exact else "spectral"


@dataclass
class Candidate:
    """One way to compress; `basis` is a list of [P, M] for a spectral one."""

    table_tolerance: float
    basis: list[np.ndarray] | None = None
    errors: Errors | None = None
    failure: str = ""

    @property
    def ranks(self) -> list[int]:
        return [len(rows) for rows in self.basis or []]

    def label(self) -> str:
        if self.basis is None:
            return f"table {self.table_tolerance:.1e}"
        low, high = min(self.ranks), max(self.ranks)
        return f"P {low}" if low == high else f"P {low}-{high}"


class Workbench:
    """A model to be compressed, frames with its answers, and candidates measured on them."""

    def __init__(self, source: Path, options: Options, folder: Path):
        from deepmd.core import Model

        self.options = options
        self.content = model_file.verify(source)
        self.frozen = model_file.read(source)
        refuse_compressed(source, self.frozen)
        try:
            reference = Model(str(source), path="fused", precision="float64", **self.frozen.part)
        except DeepmdError as error:
            raise ModelError(f"{source}: cannot be compressed: {error}") from error
        script = options.script or self.frozen.metadata.get("training_script")
        self.frames: Frames = gather(self.frozen, options.data, script, options.max_frames)
        self.choosing, self.judging = (Yardstick.of(frames, reference) for frames in self.frames.split())
        distances = [self.frames.shortest(reference.rcut), self.frozen.metadata["min_pair_distance"]]
        self.shortest = REACH * min(distance for distance in distances if distance)
        self.tolerance = options.tolerance or TOLERANCE[options.kind]
        self._trial = folder / "trial.pth"

    def record(self, candidate: Candidate) -> bytes:
        """The content of the compressed file."""
        errors = candidate.errors or Errors()
        decisions = {
            "format_version": FORMAT_VERSION,
            "kind": self.options.kind,
            "tolerance": self.tolerance,
            "table_tolerance": candidate.table_tolerance,
            "range": {"shortest": self.shortest, "source": f"{REACH:g} of the shortest distance known"},
            "ranks": candidate.ranks,
            "error": {**asdict(errors), "source": self.frames.source},
            "options": self.options.documented,
        }
        records = {model_file.COMPRESSION: json.dumps(decisions, indent=1).encode()}
        if candidate.basis is not None:
            from safetensors.numpy import save

            arrays = {f"basis_{k}": np.ascontiguousarray(rows) for k, rows in enumerate(candidate.basis)}
            records[model_file.BASIS] = save(arrays)
        return model_file.with_records(self.content, records)

    def measure(self, candidate: Candidate, yardstick: Yardstick) -> Errors:
        """Errors of the engine with this candidate; infinite if the file's own frames are not reproduced."""
        from deepmd.core import Model

        self._trial.write_bytes(self.record(candidate))
        try:
            return yardstick.measure(Model(str(self._trial), path="fused", precision="float64", **self.frozen.part))
        except DeepmdError as error:
            candidate.failure = str(error)
            return Errors(float("inf"), float("inf"), float("inf"), len(yardstick.frames))

    def accepts(self, candidate: Candidate, margin: float = SAFETY) -> bool:
        """Measures on the frames to choose by and, if these are satisfied, on the others; prints a line."""
        errors = self.measure(candidate, self.choosing)
        if errors.force_max <= self.tolerance / margin:
            errors = errors.merged(self.measure(candidate, self.judging))
        candidate.errors = errors
        log.info(
            "%-14s %5d inputs   largest force error %.1e, rms %.1e eV/A, energy %.1e eV/atom   (%d frames)",
            candidate.label(), sum(candidate.ranks) or self.width(), errors.force_max, errors.force_rms,
            errors.energy_per_atom_max, errors.frames,
        )  # fmt: skip
        return errors.force_max <= self.tolerance / margin

    def width(self) -> int:
        """Outputs of the embeddings, of all parts of a hybrid."""
        return width_of(self.frozen.tree["model"]["descriptor"])


def width_of(descriptor: dict[str, Any]) -> int:
    """Outputs of the embeddings of a descriptor's tree."""
    parts = descriptor.get("list")
    return sum(map(width_of, parts)) if parts else int(descriptor["neuron"][-1])


def refuse_compressed(path: Path, frozen: model_file.FrozenModel) -> None:
    """A compressed model is the end of the way."""
    if frozen.compression is not None:
        raise ModelError(
            f"{path}: the model is compressed already ({describe(frozen.compression)}); compress the frozen model that "
            "it was made of"
        )


def describe(record: dict[str, Any]) -> str:
    """A compression record in words."""
    error = record["error"]
    basis = f" basis of {span(record['ranks'])}" if record["kind"] == "spectral" else " table"
    return (
        f"{record['kind']}{basis}, tolerance {record['tolerance']:g} eV/A, measured {error['force_max']:.1e} eV/A on "
        f"{error['frames']} frames ({error['source']}), from {record['range']['shortest']:.2f} A on"
    )


def span(ranks: list[int]) -> str:
    """The numbers 16, 20, 18 as 16-20."""
    return str(ranks[0]) if len(set(ranks)) == 1 else f"{min(ranks)}-{max(ranks)}"


def smallest(count: int, accepts: Callable[[int], bool]) -> int | None:
    """The first of `count` candidates, sorted from coarse to fine, that is accepted; None if the last one is not."""
    low, high = 0, count - 1
    if not accepts(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if accepts(middle) else (middle + 1, high)
    return high


def choose_exact(bench: Workbench) -> Candidate:
    """The coarsest table within the tolerance."""
    candidates = [Candidate(float(t)) for t in np.geomspace(1e-5, 1e-12, 15)]
    found = smallest(len(candidates), lambda k: bench.accepts(candidates[k]))
    return found_or_refused(bench, candidates, found, "use a larger --tolerance")


def choose_spectral(bench: Workbench) -> Candidate:
    """The smallest basis within the tolerance."""
    from deepmd.nn.model import deserialize
    from deepmd.spectral import spectra

    model = deserialize(bench.frozen.tree).double()
    found_spectra = spectra(model.descriptor, bench.shortest)
    if not found_spectra:
        if bench.options.rank is not None:
            raise InputError("dp compress --rank: no sums here that a basis could shorten; leave --rank out")
        log.info("the descriptor has no sums over pairs that a basis could shorten: its tables are exact ones")
        bench.options = replace(bench.options, exact=True)
        return choose_exact(bench)
    table = min(max(SPECTRAL_TABLE * bench.tolerance, 1e-11), 1e-6)

    def with_ranks(ranks: list[int]) -> Candidate:
        return Candidate(table, [s.vectors[:rank] for s, rank in zip(found_spectra, ranks, strict=True)])

    width = max(len(s.values) for s in found_spectra)
    if bench.options.rank is not None:
        if not 1 <= bench.options.rank <= width:
            raise InputError(f"dp compress --rank: got {bench.options.rank}, expected 1 to {width}, the net's width")
        candidates = [with_ranks([bench.options.rank] * len(found_spectra))]
        found = 0 if bench.accepts(candidates[0], margin=1.0) else None
        return found_or_refused(bench, candidates, found, "use a larger --rank or --tolerance")
    largest = max(s.values[0] for s in found_spectra)
    exponents = np.arange(1, STEPS_PER_DECADE * DECADES + 1) / STEPS_PER_DECADE
    ranks = [[s.rank(largest * 10.0**-x) for s in found_spectra] for x in exponents]
    ranks = [r for k, r in enumerate(ranks) if k == 0 or r != ranks[k - 1]]
    candidates = [with_ranks(each) for each in ranks]
    found = smallest(len(candidates), lambda k: bench.accepts(candidates[k]))
    return found_or_refused(bench, candidates, found, "use --exact or a larger --tolerance")


def found_or_refused(bench: Workbench, candidates: list[Candidate], found: int | None, remedy: str) -> Candidate:
    """The accepted candidate, or a refusal with the best error that was reached."""
    if found is not None:
        return candidates[found]
    last = candidates[-1]
    reason = f" ({last.failure})" if last.failure else ""
    raise ModelError(
        f"the largest force error of {last.label()} is {last.errors.force_max:.1e} eV/A{reason}, expected at most "
        f"{bench.tolerance:g} with a margin of {SAFETY:g}; nothing was written: {remedy}"
    )


def compress_file(source: str | Path, output: str | Path, options: Options) -> dict[str, Any]:
    """Writes the compressed model, proves it, and returns its compression record.

    Raises ModelError if the model cannot be compressed, is compressed already, or misses the tolerance.
    """
    from deepmd.core import Model

    with tempfile.TemporaryDirectory(prefix="dp-compress-") as folder:
        bench = Workbench(Path(source), options, Path(folder))
        log.info(
            "%s compression to %g eV/A; %d frames to choose by, %d to judge by: %s",
            options.kind, bench.tolerance, len(bench.choosing.frames), len(bench.judging.frames), bench.frames.source,
        )  # fmt: skip
        facts = bench.frozen.metadata
        unseen = unseen_pairs(bench.frames, facts["type_map"], float(facts["rcut"]))
        if unseen:
            names = ", ".join(unseen[:6]) + (" ..." if len(unseen) > 6 else "")
            log.warning("the data hold no neighbours %s, so that the tolerance is not measured for them; name other "
                        "data with --data", names)  # fmt: skip
        chosen = choose_exact(bench) if options.exact else choose_spectral(bench)
        model_file.write_whole(output, bench.record(chosen))
    frozen = model_file.read(output)
    opened = Model(str(output), path="fused", **frozen.part)
    record = frozen.compression
    log.info("%s: %s", output, describe(record))
    log.info("%s: %s", output, opened.path_description)
    return record


def read_script(path: str | None) -> dict[str, Any] | None:
    """A training script, JSON or YAML, in today's form."""
    if path is None:
        return None
    from deepmd import config

    return config.upgrade(config.load_input(path))[0]


def options_of(args: argparse.Namespace) -> Options:
    """From the words of the command line; of the documented options, those that were given are recorded."""
    documented = {key: getattr(args, key) for key in ("step", "extrapolate", "frequency") if hasattr(args, key)}
    script = read_script(getattr(args, "training_script", None) or getattr(args, "INPUT", None))
    return Options(args.exact, args.tolerance, args.rank, args.data or [], args.max_frames, script, documented)


def main(args: argparse.Namespace) -> None:
    """The command."""
    from deepmd.infer.opening import find_model

    source = find_model(args.input)
    output = model_file.frozen_name(args.output)
    compress_file(source, output, options_of(args))
    model_file.answer_to(args.output, output)
