"""How `systems` of the input becomes a list of systems."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest
from deepmd.data import load_systems
from deepmd.errors import DataError


def names(systems, base) -> list[str]:
    return [os.path.relpath(system.name, base) for system in systems]


@pytest.fixture
def tree(tiny_system, tmp_path):
    for name in ("t/b", "t/a/x", "t/a", "u/c"):
        tiny_system(name, n_frames=2)
    return tmp_path


def test_a_string_is_searched_and_sorted(tree):
    assert names(load_systems(str(tree / "t")), tree) == ["t/a", "t/a/x", "t/b"]


def test_a_list_keeps_its_order_and_repeats(tree):
    listed = [str(tree / "u"), str(tree / "t/b"), str(tree / "t"), str(tree / "t/b")]
    assert names(load_systems(listed), tree) == ["u/c", "t/b", "t/a", "t/a/x", "t/b", "t/b"]


def test_patterns(tree):
    found = load_systems(str(tree), rglob_patterns=["a*", "*/x", "b"])
    assert names(found, tree) == ["t/a", "t/a/x", "t/b"]


def test_links_are_followed_once(tree):
    os.symlink(tree / "u", tree / "t/link")
    os.symlink(tree / "t", tree / "t/loop")
    assert names(load_systems(str(tree / "t")), tree) == ["t/a", "t/a/x", "t/b", "t/link/c"]


def test_hdf5_groups_are_searched(tree):
    with h5py.File(tree / "d.hdf5", "w") as handle:
        for group in ("b", "a/x", "a"):
            handle[f"{group}/type.raw"] = [0]
            handle[f"{group}/nopbc"] = True
            handle[f"{group}/set.000/coord.npy"] = np.zeros((2, 3))
    found = load_systems(str(tree / "d.hdf5"))
    assert [system.name.split("#")[1] for system in found] == ["/a", "/a/x", "/b"]
    assert len(load_systems(str(tree / "d.hdf5#/a"))) == 2
    with pytest.raises(DataError, match="d.hdf5 has no group /c"):
        load_systems(str(tree / "d.hdf5#/c"))


@pytest.mark.parametrize(
    ("systems", "words"),
    [
        ([], "`systems` is empty"),
        ("nowhere", "nowhere does not exist"),
        (["t/a", "nowhere"], "nowhere does not exist"),
        ("empty", "empty has no data system in it, expected a folder with type.raw"),
        ("lmdb", "lmdb is an LMDB data base"),
        ("none.hdf5#/a", "none.hdf5 does not exist"),
        ("text.hdf5#/a", "text.hdf5 is not a readable HDF5 file"),
    ],
)
def test_nothing_found_is_an_error_that_names_the_path(systems, words, tree, monkeypatch):
    monkeypatch.chdir(tree)
    (tree / "empty").mkdir()
    (tree / "lmdb").mkdir()
    (tree / "lmdb/data.mdb").touch()
    (tree / "text.hdf5").write_text("no")
    with pytest.raises(DataError, match=words):
        load_systems(systems)
