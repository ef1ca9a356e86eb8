"""The command `dp_ipi`: hands over to the installed program, which is C++ and needs no Python while it runs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import sysconfig
from pathlib import Path

from deepmd import core
from deepmd.errors import EngineError

# Not one of the program's own exit codes (1-11, see `dp_ipi --help`); what a shell says when a program is missing.
EXIT_NOT_INSTALLED = 127


def _package_folders() -> list[Path]:
    """Folders that may hold the installed package; an editable installation keeps binaries and sources apart."""
    folders = [Path(__file__).resolve().parent]
    folders += [Path(sysconfig.get_path(name)) / "deepmd" for name in ("platlib", "purelib")]
    with contextlib.suppress(EngineError):
        folders.append(core.native_folder())
    return folders


def find_binary() -> Path | None:
    """Path of the installed program, None if it is not there."""
    for folder in _package_folders():
        binary = folder / "bin" / "dp_ipi"
        if binary.is_file() and os.access(binary, os.X_OK):
            return binary
    return None


def _environment(binary: Path) -> dict[str, str]:
    """The environment for the program; it helps the loader only if torch is not beside the package."""
    environment = dict(os.environ)
    if (binary.parents[2] / "torch" / "lib").is_dir():
        return environment
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.origin is not None:
        folders = [str(Path(spec.origin).parent / "lib"), environment.get("LD_LIBRARY_PATH", "")]
        environment["LD_LIBRARY_PATH"] = ":".join(folder for folder in folders if folder)
    return environment


def main() -> int:
    """Replace this process by the program, so that signals and the exit status are the program's own."""
    binary = find_binary()
    if binary is None:
        looked = ", ".join(str(folder / "bin") for folder in dict.fromkeys(_package_folders()))
        print(
            f"dp_ipi: the program was not built with this installation (looked in {looked}); install the package again "
            "with the CMake option DEEPMD_BUILD_IPI left on, or run from outside the source tree",
            file=sys.stderr,
        )
        return EXIT_NOT_INSTALLED
    sys.stdout.flush()
    os.execve(binary, [str(binary), *sys.argv[1:]], _environment(binary))


def main_low() -> int:
    """The command `dp_ipi_low` of older manuals: the same in mixed precision."""
    os.environ.setdefault("DEEPMD_PRECISION", "mixed")
    return main()


if __name__ == "__main__":
    sys.exit(main())
