"""From the start of lmp to the first force, the memory of the process, and the size of the installation."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import md
from engines import NAMES, available
from harness import Summary, header, interleave, table
from inputs import start
from peer import peer_bin, peer_versions

DEFAULT = ["script", "plain float64", "spectral float64", "spectral mixed", "peer float64"]
FIRST = "run 0\nshell touch first_force\n"


def size_of(folder: Path) -> float:
    """MB of the files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink()) / 1e6


def installed() -> str:
    """Sizes of both installations."""
    import deepmd
    from deepmd import core

    ours = sum(size_of(p) for p in {Path(deepmd.__file__).parent, core.native_folder()})
    site = next((peer_bin().parent / "lib").glob("python*")) / "site-packages"
    peer = [p for p in ("deepmd", "deepmd_kit.libs", "tensorflow") if (site / p).exists()]
    theirs = ", ".join(f"{p} {size_of(site / p):.0f} MB" for p in peer)
    return f"installed: ours {ours:.1f} MB beside torch; peer {theirs}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", nargs="+", choices=NAMES, metavar="NAME", default=DEFAULT)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two rounds, barely trained models")
    args = parser.parse_args()
    args.repeats = 2 if args.quick else args.repeats
    print(header(f"peer: {peer_versions()}"))
    engines = available(args.engines, "water", args.quick)
    memory: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def first_force(engine: md.Engine) -> float:
            """Seconds from the start of the process until LAMMPS has gone past its first force call."""
            md.write_input(folder, engine, start("water", 192), FIRST)
            begin = time.time()
            memory[engine.name] = md.call(folder, engine).memory
            return os.stat(folder / "first_force").st_mtime - begin

        times = interleave({e.name: (lambda e=e: first_force(e)) for e in engines}, args.repeats + 1)
    rows = [[e.name, Summary(tuple(times[e.name][1:])), f"{memory[e.name] / 1e6:.0f}"] for e in engines]
    print("\n192 water atoms, one core, files in the cache of the operating system (first round dropped)")
    print(table(["engine", "s to the first force (target 1)", "MB"], rows))
    print(installed())


if __name__ == "__main__":
    main()
