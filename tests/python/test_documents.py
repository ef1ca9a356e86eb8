"""Runs every code block of the documents, in the order of the text, with a model that is trained for a few steps.

The words after the opening fence decide what happens to a block:

- ``sh``, ``python``: run; a block of installation commands is only checked, since the runners of the tests and of the
  example have carried it out;
- ``LANGUAGE name``: the block is the whole file `name`; it is written and used by the blocks that follow;
- ``LANGUAGE excerpt name``: the block must be a piece of the file `name` that lies beside the document;
- ``text``: shows output or a tree and is not run. Nothing else is allowed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "lmp"
DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "tests/README.md",
    "examples/lmp/README.md",
    "examples/lmp/data/README.md",
)
INSTALLATION = re.compile(
    r"^(\./)?(examples/lmp/run\.sh|tests/run\.sh|\.ci/run|pip install|python examples/lmp/make_data)"
)
NEEDED = {"lmp": "lmp", "i-pi": "i-pi", "cmake": "cmake", "cc ": "cc"}
TRAINING_STEPS = 300  # enough that atoms keep apart in ten steps of dynamics


@dataclass(frozen=True)
class Block:
    """One fenced block: the document, the line of its fence, the words after the fence and its text."""

    document: str
    line: int
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}-{'-'.join(self.words)}"


def blocks_of(document: str) -> list[Block]:
    """All fenced blocks of one document."""
    found, start, words, lines = [], 0, (), []
    for number, line in enumerate((ROOT / document).read_text().splitlines(), 1):
        fence = re.match(r"^```(.*)$", line)
        if fence and not start:
            start, words, lines = number, tuple(fence[1].split()), []
        elif fence:
            found.append(Block(document, start, words, "\n".join(lines) + "\n"))
            start = 0
        else:
            lines.append(line)
    assert start == 0, f"{document}:{start} opens a block that never ends"
    return found


def shortened(text: str) -> str:
    """The same text with a training and a path-integral run of a few steps, and a socket of its own."""
    text = re.sub(r'("numb_steps": *)\d+', rf"\g<1>{TRAINING_STEPS}", text)
    text = re.sub(r'("batch_size": *)\d+', r"\g<1>1", text)
    text = re.sub(r"(<total_steps>)\d+", r"\g<1>2", re.sub(r"(nbeads=')\d+", r"\g<1>2", text))
    text = re.sub(r"(variable\s+(equilibrate|produce)\s+index) \d+", r"\1 10", text)
    return re.sub(r"\bdeepmd_(water|readme)\b", rf"deepmd_\1_{os.getpid()}", text)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A working folder for each document, with copies of the files of the example."""
    made = {}
    for document in DOCUMENTS:
        folder = tmp_path_factory.mktemp(document.replace("/", "-"))
        shutil.copytree(EXAMPLE / "data", folder / "data")
        for path in EXAMPLE.iterdir():
            if path.is_file() and path.suffix in (".json", ".lammps", ".data", ".xml", ".xyz", ".py"):
                text = shortened(path.read_text())
                if document == "README.md":
                    text = text.replace(f"deepmd_water_{os.getpid()}", f"deepmd_readme_{os.getpid()}")
                (folder / path.name).write_text(text)
        made[document] = folder
    return made


PROGRAMS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "PATH": PROGRAMS, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{' '.join(command)[:200]}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def check_installation(text: str) -> None:
    for line in text.splitlines():
        assert INSTALLATION.match(line), f"{line!r} stands among installation commands and would not be run"
        script = line.split()[0].removeprefix("./")
        assert script in ("pip", "python") or os.access(ROOT / script, os.X_OK), f"{script} cannot be executed"


@pytest.mark.parametrize("block", [block for document in DOCUMENTS for block in blocks_of(document)], ids=str)
def test_block(block: Block, folders: dict[str, Path]) -> None:
    assert block.words, "a block needs a language, or the word text if it is not code"
    folder, kind = folders[block.document], block.words[0]
    if kind == "text":
        return
    if block.words[1:2] == ("excerpt",):
        original = " ".join((ROOT / block.document).parent.joinpath(block.words[2]).read_text().split())
        assert " ".join(block.text.split()) in original
        return
    if len(block.words) == 2:
        (folder / block.words[1]).write_text(shortened(block.text))
        return
    if INSTALLATION.match(block.text):
        check_installation(block.text)
        return
    for word, program in NEEDED.items():
        if (
            word in block.text
            and shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") is None
        ):
            pytest.skip(f"{program} is not installed")
    assert kind in ("sh", "python"), f"{kind} is neither run nor written to a file"
    if kind == "sh":
        run(["bash", "-euo", "pipefail", "-c", shortened(block.text)], folder)
    else:
        run([sys.executable, "-c", block.text], folder)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / document).read_text())
    inside = [target for target in targets if "://" not in target]
    assert [target for target in inside if not (ROOT / document).parent.joinpath(target).exists()] == []
