"""Input statistics and energy bias against direct evaluation of their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from deepmd.data import load_systems, write_system
from deepmd.data.graph import GraphCache
from deepmd.data.output_bias import fit_bias
from deepmd.data.statistics import set_row_statistics
from deepmd.nn.model import deserialize
from reference.tiny_models import Options, make_tree

pytestmark = pytest.mark.usefixtures("compiled")


def batches_of(folder, model, n_frames):
    cache = GraphCache(load_systems(str(folder), model.type_map), model.descriptor.rcut, model.pair_keep.numpy())
    return [cache.batch(0, np.array([k])) for k in range(n_frames)]


EXCLUDED = Options(descriptor_exclude=[[0, 1]], davg_zero=True)


@pytest.mark.parametrize("options", [Options(), Options(davg_zero=True), EXCLUDED])
def test_row_statistics_are_those_of_the_padded_table(tiny_system, options):
    model = deserialize(make_tree(options))
    batches = batches_of(tiny_system(n_frames=3), model, 3)
    set_row_statistics(model, batches)
    descriptor, n_slots = model.descriptor, sum(options.sel)
    for t in range(2):
        table = []  # all slots of all centres of this type, empty ones as zeros
        for batch in batches:
            for i in np.flatnonzero(batch.types == t):
                slots = np.zeros((n_slots, 4))
                for k, p in enumerate(range(batch.first[i], batch.first[i + 1])):
                    r = np.linalg.norm(batch.vectors[p])
                    u = np.clip((r - 0.5) / (4.0 - 0.5), 0, 1)
                    w = u**3 * (-6 * u**2 + 15 * u - 10) + 1
                    if [t, int(batch.types[batch.neighbor[p]])] in options.descriptor_exclude + [
                        pair[::-1] for pair in options.descriptor_exclude
                    ]:
                        continue
                    slots[k] = [w / r, *(w / r**2 * batch.vectors[p])]
                table.append(slots)
        table = np.concatenate(table)
        mean = 0.0 if options.davg_zero else table[:, 0].mean()
        assert float(descriptor.davg[t, 0]) == pytest.approx(mean, abs=1e-13)
        assert float(descriptor.dstd[t, 0]) == pytest.approx(max(table[:, 0].std(), 1e-2), rel=1e-12)
        assert float(descriptor.dstd[t, 2]) == pytest.approx(max(table[:, 1:].std(), 1e-2), rel=1e-10)


def test_a_type_that_is_absent_has_the_documented_statistics(tiny_system):
    model = deserialize(make_tree(Options(type_map=["O", "H", "C"], sel=[8, 8, 8])))
    set_row_statistics(model, batches_of(tiny_system(n_frames=1), model, 1))
    assert model.descriptor.davg[2].tolist() == [0, 0, 0, 0] and model.descriptor.dstd[2].tolist() == [0.1] * 4


def two_compositions(tmp_path, tiny):
    """Frames whose energies are exactly -400 eV per O and -10 eV per H."""
    batches = []
    model = deserialize(make_tree(Options()))
    for name, types in (("water", [0, 1, 1] * 4), ("peroxide", [0, 0, 1] * 4)):
        made = tiny(n_frames=2)
        types = np.array(types)
        made["data"]["energy"][:] = (types == 0).sum() * -400.0 + (types == 1).sum() * -10.0
        batches += batches_of(write_system(tmp_path / name, types, ["O", "H"], made["data"]), model, 2)
    return model, batches


def test_the_bias_is_the_least_squares_solution(tmp_path, tiny):
    model, batches = two_compositions(tmp_path, tiny)
    bias = fit_bias(model, batches).bias[:, 0]
    np.testing.assert_allclose(bias, [-400.0, -10.0], rtol=1e-10)


def test_one_composition_gives_the_minimum_norm_solution(tmp_path, tiny):
    model, batches = two_compositions(tmp_path, tiny)
    bias = fit_bias(model, batches[:2]).bias[:, 0]
    # energy per water: -420 = b_O + 2 b_H, shortest vector: (-420 / 5) * (1, 2)
    np.testing.assert_allclose(bias, [-84.0, -168.0], rtol=1e-10)


def test_a_preset_bias_is_kept(tmp_path, tiny):
    model, batches = two_compositions(tmp_path, tiny)
    model.section["preset_out_bias"] = {"energy": [None, -10.0]}
    bias = fit_bias(model, batches[:2], preset=True).bias[:, 0]
    np.testing.assert_allclose(bias, [-400.0, -10.0], rtol=1e-10)
