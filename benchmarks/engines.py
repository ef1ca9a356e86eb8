"""The engines that are compared: the files and variables each needs, or why this installation lacks it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path

import md
from harness import our_bin, run
from inputs import OBSERVERS, copper_data, start, trained, water_systems
from md import Engine
from peer import peer_graph

PEERS = {  # name: precision, compressed
    "peer float64": ("float64", True),
    "peer float32": ("float32", True),
    "peer float64 plain": ("float64", False),
    "peer float32 plain": ("float32", False),
}


@dataclass(frozen=True)
class Variant:
    """One way to run our engine."""

    compression: str | None  # None, "exact" or "spectral"
    path: str  # DEEPMD_PATH
    precision: str  # DEEPMD_PRECISION
    opponent: str  # the fastest path of the peer in the same precision
    target: dict[str, float]  # wanted ratio to the opponent, by model


OURS = {
    "script": Variant(None, "script", "float64", "peer float64", {}),
    "plain float64": Variant(None, "fused", "float64", "peer float64", {}),
    "exact float64": Variant("exact", "fused", "float64", "peer float64", {"water": 2.5}),
    "spectral float64": Variant("spectral", "fused", "float64", "peer float64", {"water": 5, "copper": 9}),
    "cuda exact float64": Variant("exact", "cuda", "float64", "peer float64", {}),
    "cuda spectral float64": Variant("spectral", "cuda", "float64", "peer float64", {}),
    "cuda spectral mixed": Variant("spectral", "cuda", "mixed", "peer float32", {}),
    "exact mixed": Variant("exact", "fused", "mixed", "peer float32", {}),
    "spectral mixed": Variant("spectral", "fused", "mixed", "peer float32", {"water": 8}),
}
NAMES = (*OURS, *PEERS)


@once
def compressed(model: str, kind: str, quick: bool) -> Path | str:
    """Our model compressed exactly or spectrally, or the reason why it cannot be."""
    source = trained(model, quick)
    target = source.with_name(f"graph_{kind}.pth")
    if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
        return target
    data = [str(copper_data())] if model == "copper" else water_systems()[0]
    words = ["--exact"] if kind == "exact" else []
    command = [our_bin() / "dp", "compress", "-i", source.name, "-o", target.name, *words, "--data", *data]
    made = run(command, source.parent, threads=1, check=False)
    return target if made.status == 0 else f"dp compress fails: {made.output.strip().splitlines()[-1]}"


@once
def missing_path(model: Path, path: str, precision: str) -> str | None:
    """Why the installed engine does not run this model on this path, found by running it; None where it does."""
    engine = Engine("probe", (model,), True, {"DEEPMD_PATH": path, "DEEPMD_PRECISION": precision})
    with tempfile.TemporaryDirectory() as name:
        copper = model.parent.name == "copper"
        md.write_input(Path(name), engine, start("copper", 256) if copper else start("water", 192), "run 0\n")
        probe = md.call(Path(name), engine, check=False)
    said = md.path_line(probe.output)
    if probe.status != 0:
        return f"lmp fails: {' '.join(probe.output.split())[-100:]}"
    if path not in said or (precision == "mixed" and precision not in said):
        return f"this installation has no path '{path}' in {precision} (it says: {said})"
    return None


def engine(name: str, model: str, quick: bool, ensemble: bool = False) -> Engine | str:
    """That engine with that model (or with the four of an ensemble), or the reason why it is skipped."""
    models = (model, *OBSERVERS) if ensemble else (model,)
    if name in PEERS:
        return Engine(name, tuple(peer_graph(trained(m, quick), *PEERS[name]) for m in models), False)
    variant = OURS[name]
    files = [compressed(m, variant.compression, quick) if variant.compression else trained(m, quick) for m in models]
    reason = next((f for f in files if isinstance(f, str)), None) or missing_path(
        files[0], variant.path, variant.precision
    )
    if reason:
        return reason
    return Engine(name, tuple(files), True, {"DEEPMD_PATH": variant.path, "DEEPMD_PRECISION": variant.precision})


def available(names: list[str], model: str, quick: bool, ensemble: bool = False) -> list[Engine]:
    """The engines of these names that this installation has; says why the others are skipped."""
    found = {name: engine(name, model, quick, ensemble) for name in names}
    for name, reason in found.items():
        if isinstance(reason, str):
            print(f"skipped: {name}: {reason}", flush=True)
    return [one for one in found.values() if isinstance(one, Engine)]
