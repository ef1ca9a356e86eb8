"""Pairs of frames, neighbour statistics and `sel: auto`; raw text to sets."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from checks import tolerance
from deepmd.data import System, load_systems, write_system
from deepmd.data import neighbor_stat as statistics
from deepmd.data.distances import numpy_pairs, pair_finder
from deepmd.data.raw import main, raw_to_set
from deepmd.errors import DataError, InputError

CELLS = {
    "open": None,
    "wide": np.diag([13.0, 14.0, 12.5]),
    "narrow": np.diag([3.1, 4.0, 9.0]),
    "skew": np.array([[5.0, 0, 0], [3.9, 4.0, 0], [-2.5, 1.5, 6.0]]),
}


def listed(pairs) -> list[tuple]:
    i, j, vectors = pairs
    return sorted((int(a), int(b), *np.round(v, 9) + 0.0) for a, b, v in zip(i, j, vectors, strict=True))


@pytest.mark.parametrize("name", CELLS)
def test_numpy_pairs_by_brute_force(name):
    cell, rcut = CELLS[name], 6.0
    positions = np.random.default_rng(0).uniform(-5, 15, (14, 3))
    expected = []
    reach = range(-9, 10) if cell is not None else range(1)
    shifts = np.array([(a, b, c) for a in reach for b in reach for c in reach])
    offsets = shifts @ cell if cell is not None else shifts.astype(float)
    for i in range(14):
        for j in range(14):
            vectors = positions[j] - positions[i] + offsets
            r = np.linalg.norm(vectors, axis=1)
            expected += [(i, j, *np.round(v, 9) + 0.0) for v, d in zip(vectors, r, strict=True) if 1e-12 < d < rcut]
    assert listed(numpy_pairs(positions, cell, rcut)) == sorted(expected)


@pytest.mark.parametrize("name", CELLS)
def test_compiled_pairs_equal_numpy_pairs(name, compiled):
    positions = np.random.default_rng(5).uniform(-5, 15, (40, 3))
    find = pair_finder(6.0)
    assert find.__qualname__.startswith("pair_finder"), "the compiled list must be in use"
    assert listed(find(positions, CELLS[name])) == listed(numpy_pairs(positions, CELLS[name], 6.0))


def test_statistics_by_hand(tmp_path):
    # A line of atoms O H H at 0, 1, 2.5 A; in the second frame the last one is 4 A from the first.
    line = np.zeros((2, 3, 3))
    line[:, :, 0] = [[0, 1, 2.5], [0, 1, 4]]
    write_system(tmp_path / "s", [0, 1, 1], ["O", "H"], {"positions": line})
    systems = load_systems(str(tmp_path / "s"), ["H", "O"])
    distance, counts = statistics.neighbor_stat(systems, 2.6, 2)
    assert abs(distance - 1.0) <= tolerance("distance") and counts.tolist() == [2, 1]
    assert statistics.neighbor_stat(systems, 2.6, 2, one_type=True)[1].tolist() == [2]
    assert statistics.neighbor_stat(systems, 1.2, 2)[1].tolist() == [1, 1]
    lonely, none = statistics.neighbor_stat(systems, 0.5, 2)
    assert math.isinf(lonely) and none.tolist() == [0, 0]


def test_statistics_count_images(tmp_path):
    data = {"positions": np.zeros((1, 1, 3)), "cell": np.eye(3)[None] * 2.0}
    write_system(tmp_path / "s", [0], ["Cu"], data)
    distance, counts = statistics.neighbor_stat(load_systems(str(tmp_path / "s")), 2.9, 1)
    assert abs(distance - 2.0) <= tolerance("distance") and counts.tolist() == [18]


def test_statistics_leave_out_virtual_atoms(tmp_path):
    positions = np.zeros((1, 3, 3))
    positions[0, 1, 0] = 1.5
    write_system(tmp_path / "s", np.array([[0, 1, -1]]), ["O", "H"], {"positions": positions})
    distance, counts = statistics.neighbor_stat(load_systems(str(tmp_path / "s")), 3.0, 2)
    assert abs(distance - 1.5) <= tolerance("distance") and counts.tolist() == [1, 1]


def test_frames_are_spread_over_systems(tiny_system):
    systems = [load_systems(str(tiny_system(f"s{n}", n_frames=n)))[0] for n in (1, 10, 30)]
    assert [len(frames) for frames in statistics.spread_frames(systems, None)] == [1, 10, 30]
    chosen = [frames.tolist() for frames in statistics.spread_frames(systems, 8)]
    assert chosen == [[0], [0, 9], [0, 5, 11, 17, 23, 29]]
    some = statistics.neighbor_stat(systems, 3.0, 2, max_frames=8)[0]
    assert some >= statistics.neighbor_stat(systems, 3.0, 2)[0]


def test_statistics_refuse_overlap(tmp_path):
    positions = np.random.default_rng(0).uniform(0, 3, (3, 4, 3))
    positions[2, 3] = positions[2, 1]
    write_system(tmp_path / "s", [0] * 4, ["H"], {"positions": positions})
    with pytest.raises(DataError, match=r"set.000/coord.npy, frame 2: atoms [13] and [13] are on one spot"):
        statistics.neighbor_stat(load_systems(str(tmp_path / "s")), 3.0, 1)


def test_statistics_of_water(shared):
    systems = load_systems(str(shared("water/data/data_0")), ["O", "H"])
    distance, counts = statistics.neighbor_stat(systems, 6.0, 2)
    assert 0.89 < distance < 0.90 and 30 < counts[0] <= 46 and 60 < counts[1] <= 92


def test_main_prints_both_figures(tiny_system, capsys):
    args = SimpleNamespace(system=str(tiny_system("a")), rcut=3.0, type_map=["O", "H"], mixed_type=False)
    assert statistics.main(args) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("min_nbor_dist: 0.") and second.startswith("max_nbor_size: [")


@pytest.mark.parametrize(
    ("sel", "counts", "expected"),
    [
        ("auto", [38, 72], [44, 80]),  # 41.8 -> 41 -> 44, 79.2 -> 79 -> 80
        ("auto:1.5", [10, 0], [16, 0]),
        ("auto:1", [4, 5], [4, 8]),
        ([46, 92], [50, 50], [46, 92]),
        (120, [50], [120]),
    ],
)
def test_auto_sel(sel, counts, expected):
    assert statistics.auto_sel(sel, counts) == expected


@pytest.mark.parametrize("sel", ["automatic", "auto:", "auto:x", "auto:-1", "auto:0", "46"])
def test_bad_auto_sel(sel):
    with pytest.raises(InputError, match="sel is '"):
        statistics.auto_sel(sel, [1, 2])


def raw_folder(folder, made) -> str:
    folder.mkdir()
    (folder / "type.raw").write_text(" ".join(str(k) for k in made["types"]))
    (folder / "type_map.raw").write_text(" ".join(made["type_map"]))
    for key, values in made["data"].items():
        stem = {"positions": "coord", "cell": "box"}.get(key, key)
        np.savetxt(folder / f"{stem}.raw", values.reshape(len(values), -1), fmt="%.18e")
    return str(folder)


def test_raw_to_sets(tmp_path, tiny, capsys):
    made = tiny(n_frames=7)
    folder = raw_folder(tmp_path / "raw", made)
    before = System.open(folder).frames()
    assert main(SimpleNamespace(folder=folder, lines_per_set=3)) == 0
    assert "wrote 3 set(s): set.000, set.001, set.002" in capsys.readouterr().out
    assert np.load(f"{folder}/set.002/energy.npy").shape == (1,)
    system = System.open(folder)
    after = system.frames()
    assert len(system.sets) == 3 and np.load(f"{folder}/set.000/coord.npy").dtype == np.float64
    for key, values in made["data"].items():
        assert np.array_equal(after[key], values) and np.array_equal(before[key], values)


def test_raw_to_sets_refuses(tmp_path, tiny):
    folder = raw_folder(tmp_path / "raw", tiny(n_frames=4))
    with pytest.raises(DataError, match="lines_per_set is 0"):
        raw_to_set(folder, 0)
    raw_to_set(folder, 2)
    with pytest.raises(DataError, match="already has set.000"):
        raw_to_set(folder, 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no coord.raw"):
        raw_to_set(str(tmp_path / "empty"))


def test_written_systems_are_refused_when_wrong(tmp_path, tiny):
    made = tiny(n_frames=2)
    good = (made["types"], made["type_map"], made["data"])
    write_system(tmp_path / "s", *good)
    with pytest.raises(DataError, match="already has sets"):
        write_system(tmp_path / "s", *good)
    with pytest.raises(DataError, match=r"force has shape \(1, 12, 3\), expected 2 frames of 36 numbers"):
        write_system(
            tmp_path / "t", made["types"], made["type_map"], {**made["data"], "force": made["data"]["force"][:1]}
        )
    with pytest.raises(DataError, match="types run from 0 to 1"):
        write_system(tmp_path / "u", made["types"], ["O"], made["data"])
