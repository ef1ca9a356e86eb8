"""Models that this program wrote and DeePMD-kit read: the writer still writes these trees, and predictions agree.

`tests/reference/peer_reads_us.py` makes the files of tests/data/written.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from deepmd.exchange import check_supported, flatten, unflatten
from deepmd.nn.model import deserialize
from reference.peer_reads_us import KEPT, kept_differences, stored_tree

pytestmark = pytest.mark.usefixtures("compiled")

FILES = sorted(KEPT.glob("*.npz"))
LIMIT = 1e-9  # eV, eV/Angstrom or the unit of the output
FLOAT32 = 1e-5  # the peer's arithmetic was float32


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_writer_writes_what_the_peer_has_read(path: Path):
    data = np.load(path)
    json_tree, arrays = stored_tree(data)
    tree = unflatten(json_tree, arrays)
    check_supported({"model": tree})
    model = deserialize({"model": tree}).eval()
    again, numbers = flatten(model.serialize())
    assert again == json_tree
    assert list(numbers) == list(arrays)
    for name, value in arrays.items():
        assert numbers[name].dtype == value.dtype and numbers[name].shape == value.shape
        np.testing.assert_array_equal(numbers[name], value)

    limit = FLOAT32 if "float32" in path.stem else LIMIT
    worst = kept_differences(data, model)
    assert worst and all(error < limit for error in worst.values()), worst


def test_the_peer_has_read_every_kind():
    trees = [json.loads(str(np.load(path)["model"]))["tree"] for path in FILES]
    kinds = {tree["type"] for tree in trees}
    standard = [tree for tree in trees if tree["type"] == "standard"]
    assert kinds >= {"standard", "zbl", "linear_ener", "spin_ener"}
    assert {tree["fitting"]["type"] for tree in standard} == {"ener", "dipole", "polar", "dos", "property"}
    descriptors = {tree["descriptor"]["type"] for tree in standard}
    assert descriptors >= {"se_e2_a", "se_r", "se_e3", "dpa1", "se_atten_v2", "se_e3_tebd", "dpa2", "dpa3", "hybrid"}
