"""Every file that is not a sound frozen model is refused in words, damaged ones above all."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest
import torch
from deepmd import model_file
from deepmd.errors import EngineError, ModelError
from toy_lj import Options, ToyLj, write_toy


@pytest.fixture(scope="module")
def toy(compiled, tmp_path_factory):
    """An open model and its file."""
    path = write_toy(tmp_path_factory.mktemp("toy") / "graph.pth")
    return compiled.Model(str(path)), path


def refused_file(compiled, path, words, code):
    with pytest.raises(ModelError, match=words) as caught:
        compiled.Model(str(path))
    assert caught.value.code == code, caught.value
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_foreign_files_are_refused_in_words(compiled, tmp_path):
    def file(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    def saved(save):
        buffer = io.BytesIO()
        save(buffer)
        return buffer.getvalue()

    script = saved(lambda out: torch.jit.save(torch.jit.script(ToyLj(5.0)), out))
    npz = saved(lambda out: np.savez(out, a=np.zeros(3)))
    checkpoint = saved(lambda out: torch.save({"model": ToyLj(5.0).state_dict()}, out))
    for name, content, words, code in [
        ("empty.pth", b"", "is empty", "DP_ERROR_DAMAGED"),
        ("model.pt", checkpoint, "is a training checkpoint.*dp freeze", "DP_ERROR_FORMAT"),
        (
            "kit.pth",
            script,
            "TorchScript module that was not written by this program.*dp convert-backend",
            "DP_ERROR_FORMAT",
        ),
        ("model.dp", b"\x89HDF\r\n\x1a\n" + bytes(200), "exchange file.*dp convert-backend", "DP_ERROR_FORMAT"),
        ("graph.pb", b"\n\x83\x01\n\x0fo_wfc\x12\x00\x01" + bytes(range(200)), "TensorFlow graph", "DP_ERROR_FORMAT"),
        ("input.json", b'{"model": {}}\n', "is a text file", "DP_ERROR_FORMAT"),
        ("lfs.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull", "DP_ERROR_FORMAT"),
        ("arrays.npz", npz, "a zip archive but not a frozen model", "DP_ERROR_FORMAT"),
        ("random", bytes(range(128, 256)) * 3, "is not a frozen model", "DP_ERROR_FORMAT"),
    ]:
        refused_file(compiled, file(name, content), words, code)
    refused_file(compiled, tmp_path / "missing.pth", "cannot be read: No such file", "DP_ERROR_FILE")
    refused_file(compiled, tmp_path, "is a folder", "DP_ERROR_FILE")


def test_every_kind_of_damage_is_refused(compiled, toy, tmp_path):
    whole = toy[1].read_bytes()
    path = tmp_path / "graph.pth"
    for size in [1, 20, 1000, len(whole) // 2, len(whole) - 100, len(whole) - 40, len(whole) - 1]:
        path.write_bytes(whole[:size])
        refused_file(compiled, path, "damaged|cut short", "DP_ERROR_DAMAGED")
    for extra in (b"\0", b"appended text\n", whole[:100]):
        path.write_bytes(whole + extra)
        refused_file(compiled, path, "damaged", "DP_ERROR_DAMAGED")
    rng = np.random.default_rng(2026)
    for at, bit in zip(rng.integers(0, len(whole), 240), rng.integers(0, 8, 240), strict=True):
        _flip(compiled, path, whole, at, bit)
    for at in range(len(whole) - 110, len(whole)):
        _flip(compiled, path, whole, at, int(rng.integers(0, 8)))


def _flip(compiled, path, whole, at, bit):
    damaged = bytearray(whole)
    damaged[at] ^= 1 << bit
    path.write_bytes(damaged)
    with pytest.raises(ModelError, match="damaged|version|not a frozen model"):
        compiled.Model(str(path))


def test_a_sealed_file_with_wrong_content_is_refused(compiled, tmp_path):
    path = tmp_path / "graph.pth"
    for options, words, code in [
        (Options(metadata={"format_version": 7}), "format version 7, expected 1", "DP_ERROR_VERSION"),
        (Options(metadata={"rcut": -1.0}), "rcut is -1", "DP_ERROR_FORMAT"),
        (Options(metadata={"type_map": []}), "type_map is empty", "DP_ERROR_FORMAT"),
        (Options(metadata={"default_fparam": [1.0]}), "default_fparam has 1 numbers", "DP_ERROR_FORMAT"),
        (Options(drop=("rcut",)), "key 'rcut' not found", "DP_ERROR_FORMAT"),
    ]:
        write_toy(path, options)
        refused_file(compiled, path, words, code)
    write_toy(path, Options(metadata={"kind": "dipole"}))
    with pytest.raises(EngineError, match="kind 'dipole'") as caught:
        compiled.Model(str(path))
    assert caught.value.code == "DP_ERROR_UNSUPPORTED"


def test_missing_records_and_future_trailers_are_refused(compiled, toy, tmp_path):
    path = tmp_path / "graph.pth"
    with zipfile.ZipFile(toy[1]) as source:
        records = {name: source.read(name) for name in source.namelist()}
    for missing in ("metadata.json", "selftest.safetensors"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as target:
            for name, content in records.items():
                if not name.endswith(missing):
                    target.writestr(name, content)
        path.write_bytes(model_file.seal(buffer.getvalue()))
        with pytest.raises(ModelError, match=f"lacks the record extra/deepmd/{missing}"):
            compiled.Model(str(path))
    whole = toy[1].read_bytes()
    path.write_bytes(whole.replace(b"deepmd-engine-1 sha256:", b"deepmd-engine-2 sha256:"))
    refused_file(compiled, path, "another version of the file format", "DP_ERROR_VERSION")


def test_failed_selftest_is_refused(compiled, toy, tmp_path):
    path = tmp_path / "graph.pth"
    write_toy(path, Options(module=ToyLj(5.0, sigma=2.0001).requires_grad_(False)))
    refused_file(compiled, path, "fails its self-test: the energy of a stored frame differs by", "DP_ERROR_SELFTEST")
    model = compiled.Model(str(path), run_selftest=False)
    with pytest.raises(ModelError, match="fails its self-test"):
        model.selftest()


def test_trailer_stands_where_the_format_says(toy):
    whole = toy[1].read_bytes()
    comment = whole[-87:]
    assert comment.startswith(model_file.TRAILER) and len(comment) == 87
    assert whole[-87 - 22 : -87 - 18] == b"PK\x05\x06" and struct.unpack("<H", whole[-89:-87]) == (87,)


def test_a_frozen_file_keeps_the_dots_of_its_name():
    """Models graph.000 to graph.003 must not end in one file."""
    names = {"graph.pb": "graph.pth", "a.pth": "a.pth", "model": "model.pth", "graph.000": "graph.000.pth"}
    assert {name: model_file.frozen_name(name).name for name in names} == names
