"""Fixtures that all tests share: where things are, the shared data, small systems made on the spot."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from small_systems import make_frames

ROOT = Path(__file__).resolve().parents[1]

# Without a GPU, what asks for the path cuda gets its emulation on the host; nothing gets it unasked.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("DEEPMD_GPU", "emulated")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Callable[..., Path]:
    """`shared("water/data/data_0")` is that path in the shared data; the test is skipped where it is absent."""
    base = Path(os.environ.get("DEEPMD_SHARED_DATA") or ROOT.parent / "shared" / "data")

    def find(*parts: str) -> Path:
        path = base.joinpath(*parts)
        if not path.exists():
            pytest.skip(f"no shared data '{'/'.join(parts)}'; set DEEPMD_SHARED_DATA to the folder that holds it")
        return path

    return find


@pytest.fixture(scope="session")
def compiled():
    """The module deepmd.core with the compiled library behind it; skipped in a bare source tree."""
    from deepmd import core
    from deepmd.errors import EngineError

    try:
        core.native_folder()
        core.version()
    except EngineError as error:
        pytest.skip(f"the compiled module is not installed ({error})")
    return core


@pytest.fixture
def tiny() -> Callable[..., dict]:
    """Maker of small systems in memory: `tiny(n_frames, n_molecules, seed, periodic)`."""
    return make_frames


@pytest.fixture
def tiny_system(tmp_path: Path) -> Callable[..., Path]:
    """Maker of small systems on disk: `tiny_system("name", n_frames=5, ...)` writes one and gives its folder."""
    from deepmd.data import write_system

    def write(name: str = "system", set_size: int | None = None, **options) -> Path:
        made = make_frames(**options)
        return write_system(tmp_path / name, made["types"], made["type_map"], made["data"], set_size)

    return write
