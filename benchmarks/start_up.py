"""From the start of lmp to the first force, its memory, and the size of the installation."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import deepmd
from deepmd import core
from lammps import INPUT, prepare
from peer import describe, machine, our_bin, peer_bin, run

REPEATS = 5


def size_of(folder: Path) -> float:
    """MB of the files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink()) / 1e6


def main() -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for who, model in prepare(folder).items():
            program = our_bin() if who == "ours" else peer_bin()
            text = INPUT.format(model=model, n=1, warm=0, steps=1).split("dump 1")[0]
            (folder / "in.lammps").write_text(text)
            runs = [run([program / "lmp", "-in", "in.lammps"], folder, 1) for _ in range(REPEATS)]
            print(f"{who:12}: first force after {describe([r.wall for r in runs])} s, "
                  f"memory {max(r.memory for r in runs) / 1e6:.0f} MB")  # fmt: skip
    installed = {Path(deepmd.__file__).parent, core.native_folder()}
    print(f"ours beside torch: {sum(size_of(p) for p in installed):.1f} MB")
    site = next((peer_bin().parent / "lib").glob("python*")) / "site-packages"
    parts = [p for p in ("deepmd", "deepmd_kit.libs", "tensorflow") if (site / p).exists()]
    print(f"peer: {', '.join(f'{p} {size_of(site / p):.0f} MB' for p in parts)}; lmp {shutil.which('lmp')}")


if __name__ == "__main__":
    main()
