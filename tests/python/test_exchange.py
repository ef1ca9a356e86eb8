"""The neutral tree in its files: order of variables, round trips, refusals."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from deepmd import exchange
from deepmd.errors import InputError, ModelError

h5py = pytest.importorskip("h5py")

PEER_MODELS = "sea sea_exclude sea_f32 sea_oneside_dt pair_exclude fparam aparam dpa2 zbl hybrid".split()


def make_tree():
    return {
        "model": {
            "type_map": ["O", "H"],
            "@variables": {"out_bias": np.arange(2.0).reshape(1, 2, 1), "out_std": np.ones((1, 2, 1))},
            "type": "standard",
            "@version": 2,
            "descriptor": {
                "type": "se_e2_a",
                "@version": 2,
                "rcut": 6.0,
                "layers": [{"@variables": {"w": np.ones((1, 3), np.float32), "b": np.zeros(3), "idt": None}}],
                "@variables": {"davg": np.zeros((2, 4, 4))},
            },
            "fitting": {
                "type": "ener",
                "@version": 4,
                "neuron": [5],
                "@variables": {"bias_atom_e": np.ones((2, 1)), "x": None},
            },
        },
        "model_def_script": {"type_map": ["O", "H"]},
        "@variables": {"min_nbor_dist": np.array(0.75)},
    }


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def without_header(tree):
    return {key: value for key, value in tree.items() if key not in exchange.HEADER}


def test_flatten_numbers_arrays_in_key_order():
    json_tree, arrays = exchange.flatten(make_tree())
    assert list(arrays) == [f"variable_{k:04d}" for k in range(7)]
    assert json_tree["model"]["descriptor"]["layers"][0]["@variables"] == {
        "w": "/variable_0002",
        "b": "/variable_0003",
        "idt": None,
    }
    assert json_tree["model"]["descriptor"]["@variables"]["davg"] == "/variable_0004"
    assert json_tree["@variables"]["min_nbor_dist"] == "/variable_0006"
    json.dumps(json_tree)
    assert_same(exchange.unflatten(json_tree, arrays), make_tree())


def test_unflatten_names_a_missing_array():
    json_tree, arrays = exchange.flatten(make_tree())
    del arrays["variable_0003"]
    with pytest.raises(ModelError, match="variable_0003"):
        exchange.unflatten(json_tree, arrays)


@pytest.mark.parametrize("suffix", [".dp", ".yaml", ".yml"])
def test_files_keep_every_bit(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    exchange.write_tree(path, make_tree())
    tree = exchange.read_tree(path)
    assert list(tree)[:3] == list(exchange.HEADER)
    assert_same(without_header(tree), make_tree())
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_yaml_arrays_have_the_peer_s_spelling(tmp_path):
    yaml = pytest.importorskip("yaml")
    exchange.write_tree(tmp_path / "m.yaml", make_tree())
    raw = yaml.safe_load((tmp_path / "m.yaml").read_text())
    entry = raw["model"]["descriptor"]["layers"][0]["@variables"]["w"]
    head = {"@class": "np.ndarray", "@is_variable": True, "@version": 1}
    assert entry == {**head, "dtype": "float32", "value": [[1.0] * 3]}


@pytest.mark.parametrize("name", PEER_MODELS)
def test_peer_files_are_numbered_the_same_way(shared, tmp_path, name):
    path = shared("..", "peer", f"{name}.dp")
    with h5py.File(path) as file:
        expected = json.loads(file.attrs["json"])
        stored = {key: file[key][()] for key in file}
    tree = exchange.read_tree(path)
    json_tree, arrays = exchange.flatten(tree)
    assert_same(json_tree, expected)
    assert sorted(arrays) == sorted(stored)
    for key, value in arrays.items():
        np.testing.assert_array_equal(value, stored[key])
    exchange.write_tree(tmp_path / "again.dp", tree)
    assert_same(without_header(exchange.read_tree(tmp_path / "again.dp")), without_header(tree))


def test_unsupported_kinds_are_refused_by_name():
    tree = make_tree()
    exchange.check_supported(tree)
    for section, kind in (("descriptor", "dpa4"), ("fitting", "population")):
        other = make_tree()
        other["model"][section]["type"] = kind
        with pytest.raises(ModelError, match=kind):
            exchange.check_supported(other)
    other = make_tree()
    other["model"]["type"] = "zbl"
    with pytest.raises(ModelError, match="zbl"):
        exchange.check_supported(other)
    other = make_tree()
    other["model"]["descriptor"]["@version"] = 9
    with pytest.raises(ModelError, match="version 9"):
        exchange.check_supported(other)


def test_reading_what_is_not_a_model_is_refused(tmp_path):
    for name, content, words in (
        ("a.dp", b"plain text", "cannot be read"),
        ("b.yaml", b"- 1\n- 2\n", "no entry 'model'"),
        ("c.yaml", b"a: [1, 2\n", "not valid YAML"),
        ("d.txt", b"", "suffix"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=words):
            exchange.read_tree(tmp_path / name)
    with h5py.File(tmp_path / "e.dp", "w") as file:
        file["variable_0000"] = np.zeros(3)
    with pytest.raises(ModelError, match="attribute 'json'"):
        exchange.read_tree(tmp_path / "e.dp")
    with pytest.raises(ModelError, match="does not exist"):
        exchange.read_tree(tmp_path / "none.dp")


def test_describe_tells_types_widths_and_biases():
    text = "\n".join(exchange.describe(make_tree()))
    assert "O H" in text and "se_e2_a" in text and "O 1.000000 eV, H 2.000000 eV" in text and "0.750000 A" in text


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A .dp file and the frozen model that dp convert-backend makes of it."""
    pytest.importorskip("deepmd._core", reason="the compiled core is not built")
    from reference.tiny_models import Options, make_tree

    folder = tmp_path_factory.mktemp("convert")
    options = Options(
        n_fparam=1, descriptor_exclude=[[0, 1]], atom_ener=[None, 0.5], one_side=True, davg_zero=True
    )  # fmt: skip
    tree = make_tree(options)
    tree["@variables"] = {"min_nbor_dist": np.array(0.75)}
    exchange.write_tree(folder / "a.dp", tree)
    exchange.main(argparse.Namespace(INPUT=str(folder / "a.dp"), OUTPUT=str(folder / "a.pth")))
    return folder


@pytest.mark.parametrize("suffix", [".dp", ".yaml"])
def test_there_and_back_keeps_the_model(frozen, suffix, caplog):
    target = frozen / f"back{suffix}"
    with caplog.at_level("INFO", logger="deepmd.exchange"):
        exchange.main(argparse.Namespace(INPUT=str(frozen / "a.pth"), OUTPUT=str(target)))
    assert "type map        : O H" in caplog.messages and any("energy biases" in line for line in caplog.messages)
    first, second = exchange.read_tree(frozen / "a.dp"), exchange.read_tree(target)
    assert_same(second["model"], first["model"])
    assert_same(second["@variables"], first["@variables"])


def test_conversion_refuses_unknown_suffixes_and_kinds(frozen):
    for source, target, words in (("a.pb", "b.dp", "input"), ("a.dp", "b.pb", "output")):
        with pytest.raises(ModelError, match=words):
            exchange.main(argparse.Namespace(INPUT=str(frozen / source), OUTPUT=str(frozen / target)))
    tree = exchange.read_tree(frozen / "a.dp")
    tree["model"]["fitting"]["type"] = "population"
    exchange.write_tree(frozen / "population.dp", tree)
    with pytest.raises(ModelError, match="'population'"):
        exchange.main(argparse.Namespace(INPUT=str(frozen / "population.dp"), OUTPUT=str(frozen / "x.pth")))
    assert not (frozen / "x.pth").exists()


GOLDENS = sorted((Path(__file__).parents[1] / "data" / "peer").glob("*.dp"))


@pytest.mark.parametrize("path", GOLDENS, ids=lambda path: path.stem)
def test_a_model_of_the_peer_keeps_its_keys_and_numbers(path):
    """The peer refuses unknown keys and misses absent ones, so a model that went through torch must have the same."""
    from deepmd.nn.model import deserialize

    def compare(ours, theirs, where):
        if where.endswith("/precision") or (where.endswith("/atom_ener") and not ours and not theirs):
            return  # "default" is float64, an empty list is none
        assert type(ours) is type(theirs) or isinstance(ours, (int, float)), where
        if isinstance(theirs, dict):
            assert set(ours) == set(theirs), where
            for key in theirs:
                compare(ours[key], theirs[key], f"{where}/{key}")
        elif isinstance(theirs, list):
            assert len(ours) == len(theirs), where
            for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
                compare(a, b, f"{where}/{k}")
        elif isinstance(theirs, np.ndarray):
            np.testing.assert_array_equal(ours, theirs, err_msg=where)
        else:
            assert ours == theirs, where

    theirs = exchange.read_tree(path)
    compare(deserialize(theirs).serialize(), theirs["model"], "model")


@pytest.mark.parametrize("name", ["a.dp", "a.pth"])
def test_show_tells_what_a_file_holds(frozen, name, caplog):
    from deepmd import show

    attributes = ["type-map", "descriptor", "fitting-net", "size", "observed-type", "serialization-tree"]
    with caplog.at_level("INFO", logger="deepmd.show"):
        show.main(argparse.Namespace(INPUT=str(frozen / name), ATTRIBUTES=attributes))
    text = "\n".join(caplog.messages)
    assert text.startswith("This is a singletask model")
    for words in ("The type_map is", "'rcut': 4.0", "Parameter counts:", "descriptor: Descriptor se_e2_a",
                  "Observed types: ['O', 'H']", "rcut, rcut_smth : 4.0 0.5 A", "min distance    : 0.75"):  # fmt: skip
        assert words in text
    with pytest.raises(InputError, match="single task"):
        show.main(argparse.Namespace(INPUT=str(frozen / name), ATTRIBUTES=["model-branch"]))
