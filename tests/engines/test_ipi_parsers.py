"""The C++ checks of dp_ipi's parts, and its parsers fed with random bytes, under the sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ipi_fixtures import build_standin


def run(name: str, *words: str, folder: Path) -> str:
    done = subprocess.run(
        [str(build_standin() / name), *words], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_parts(tmp_path: Path) -> None:
    assert "all passed" in run("dp_ipi_unit", folder=tmp_path)


def test_random_streams(tmp_path: Path) -> None:
    """10,000 streams: no signal, no report, nothing sent that is not finite, and each kind of end is reached."""
    told = run("dp_ipi_fuzz", "10000", folder=tmp_path)
    protocol = next(line for line in told.splitlines() if line.startswith("protocol:"))
    for code in ("code 0:", "code 5:", "code 7:", "code 8:", "code 9:"):
        assert code in protocol, told
