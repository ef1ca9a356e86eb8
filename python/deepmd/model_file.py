"""graph.pth, read and written in one place.

The file is a TorchScript archive with four extra records (metadata, neutral tree, weights, self-test frames) and a
trailer in the zip comment, `deepmd-engine-1 sha256:<64 hex digits>`. The digest covers every byte before the digits, so
damage anywhere is found before torch reads the file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.errors import ModelError

FORMAT = "deepmd-engine"
FORMAT_VERSION = 1
SUFFIX = ".pth"
FOREIGN_SUFFIXES = (".pb", ".pt", ".pt2", ".pte", ".pd", ".json", ".hlo", ".jax", ".dp", ".savedmodel", ".tf")
TRAILER = f"{FORMAT}-{FORMAT_VERSION} sha256:".encode()
N_DIGITS = 64
END_OF_DIRECTORY = b"PK\x05\x06"  # zip: signature of the record that the comment belongs to
RECORDS = {
    "metadata": "deepmd/metadata.json",
    "tree": "deepmd/model.json",
    "weights": "deepmd/weights.safetensors",
    "selftest": "deepmd/selftest.safetensors",
}


COMPRESSION = "deepmd/compression.json"
MODIFIER = "deepmd/modifier.pth"
"""A frozen model of dipoles, which the modifier of a model needs."""
BASIS = "deepmd/compression.safetensors"


@dataclass
class FrozenModel:
    """What a frozen file holds beside the TorchScript module."""

    metadata: dict[str, Any]
    tree: dict[str, Any]
    """Neutral tree with NumPy arrays under `@variables`."""
    selftest: dict[str, np.ndarray] = field(default_factory=dict)
    """`k.positions` [n, 3], `k.types` [n], `k.cell` [3, 3], `k.energy` [1], `k.forces` [n, 3], `k.virial` [3, 3]"""
    compression: dict[str, Any] | None = None
    """What `dp compress` decided and measured; None for a model that is not compressed."""
    modifier: bytes | None = None
    """The frozen model that the modifier needs; its numbers stand in the metadata under `modifier`."""

    @property
    def part(self) -> dict[str, str]:
        """Options of `deepmd.core.Model` that open the model without what its modifier adds."""
        return {} if self.modifier is None else {"part": "short_range"}

    def open_modifier(self) -> Any:
        """The modifier (`deepmd.nn.modifier`) that the model goes with; None without one."""
        if self.modifier is None:
            return None
        from deepmd.nn.modifier import DipoleCharge

        return DipoleCharge(self.metadata["modifier"], self.metadata["type_map"], self.modifier)


def frozen_name(path: str | Path) -> Path:
    """The file that a frozen model goes to: named .pth, in the place of the suffix that another backend has."""
    path = Path(path)
    if path.suffix == SUFFIX or path.suffix in FOREIGN_SUFFIXES:
        return path.with_suffix(SUFFIX)
    return path.with_name(path.name + SUFFIX)  # graph.000, water_0.5: what follows the dot belongs to the name


def answer_to(asked: str | Path, written: Path) -> None:
    """Where an input says graph.pb, as the manuals of TensorFlow times do, makes that name a link to graph.pth."""
    asked = Path(asked)
    if asked.suffix != ".pb" or (asked.exists() and not asked.is_symlink()):
        return
    point(asked, written.name)


def point(link: Path, target: str) -> None:
    """Makes `link` a symbolic link to `target` in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)


def write(path: str | Path, module: Any, frozen: FrozenModel) -> None:
    """Writes the file whole: temporary file, fsync, rename.

    module: torch.jit.ScriptModule. Raises ModelError when the disk is full or the folder is not writable.
    """
    import torch
    from safetensors.numpy import save

    from deepmd.exchange import flatten

    tree, variables = flatten(frozen.tree)
    weights = {name: np.array(array, order="C") for name, array in variables.items()}  # keeps 0-d arrays 0-d
    extra = {
        RECORDS["metadata"]: json.dumps(frozen.metadata, indent=1),
        RECORDS["tree"]: json.dumps(tree, separators=(",", ":")),
        RECORDS["weights"]: save(weights),
        RECORDS["selftest"]: save({k: np.ascontiguousarray(v) for k, v in frozen.selftest.items()}),
    }
    if frozen.modifier is not None:
        extra[MODIFIER] = frozen.modifier
    buffer = io.BytesIO()
    torch.jit.save(module, buffer, _extra_files=extra)
    write_whole(path, seal(buffer.getvalue()))


def frame_of(selftest: dict[str, np.ndarray], k: int) -> dict[str, np.ndarray]:
    """The arrays of self-test frame k by name, such as positions [n, 3]."""
    return {name.split(".", 1)[1]: array for name, array in selftest.items() if name.startswith(f"{k}.")}


def with_records(content: bytes, records: dict[str, bytes]) -> bytes:
    """A sealed file with extra records added; torch is not needed."""
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        folder = archive.namelist()[0].split("/", 1)[0]
        archive.comment = b""
        for name, record in records.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}/extra/{name}"), record)
    return seal(buffer.getvalue())


def seal(archive: bytes, trailer: bytes = TRAILER) -> bytes:
    """Adds a trailer and the digest of everything before it to a zip archive that has no comment."""
    if archive[-22:-18] != END_OF_DIRECTORY:
        raise ModelError("got an archive whose directory does not end the file; cannot add the checksum")
    sealed = archive[:-2] + struct.pack("<H", len(trailer) + N_DIGITS) + trailer
    return sealed + hashlib.sha256(sealed).hexdigest().encode()


def write_whole(path: str | Path, content: bytes) -> None:
    """Writes a file so that its name never stands for half of it."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ModelError(
            f"{path}: cannot write {len(content)} bytes: {error.strerror or error}; what stood there is untouched"
        ) from error


def sync_folder(folder: Path) -> None:
    """Makes a rename in the folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def verify(path: str | Path) -> bytes:
    """The bytes of a frozen file whose checksum is right.

    Raises ModelError in words for a missing, damaged or foreign file.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model file: {error.strerror or error}", "DP_ERROR_FILE") from error
    start = len(content) - len(TRAILER) - N_DIGITS
    if start < 0 or content[start : start + len(TRAILER)] != TRAILER:
        raise ModelError(f"{path}: {foreign(content)}", "DP_ERROR_FORMAT")
    digest = hashlib.sha256(content[:-N_DIGITS]).hexdigest()
    if digest.encode() != content[-N_DIGITS:]:
        raise ModelError(
            f"{path}: the file is damaged: its content has checksum {digest[:12]}..., its trailer says "
            f"{content[-N_DIGITS:][:12].decode(errors='replace')}...; copy it again or freeze it anew",
            "DP_ERROR_DAMAGED",
        )
    return content


def foreign(content: bytes) -> str:
    """What a file without our trailer is, and what to do about it."""
    if not content:
        return "the file is empty; freeze the model again with dp freeze"
    if content.startswith(b"\x89HDF"):
        return (
            "this is an HDF5 file (.dp), expected a frozen model; convert it with dp convert-backend model.dp graph.pth"
        )
    if f"{FORMAT}-".encode() in content[-200:]:
        return f"the file is damaged or of another format version, expected version {FORMAT_VERSION}; freeze it anew"
    if content.startswith(b"PK"):
        if b"/code/__torch__" not in content:
            return "this is a training checkpoint or cut short, expected a frozen model; run dp freeze first"
        return (
            "this is a TorchScript archive without our checksum: damaged, cut short or written by another program; "
            "freeze it anew, or convert a DeePMD-kit model by way of .dp with dp convert-backend"
        )
    if content.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the model itself; run git lfs pull"
    if content.startswith(b"\n") and not content[:4096].isascii():  # the nodes of a graph, as a protocol buffer
        return (
            "this looks like a TensorFlow graph (.pb), expected a frozen model; let DeePMD-kit write "
            "dp convert-backend model.pb model.dp, then run dp convert-backend model.dp graph.pth here"
        )
    return "this is no frozen model, expected a file written by dp freeze"


def read(path: str | Path) -> FrozenModel:
    """Metadata, tree and self-test frames of a verified file; torch is not needed."""
    from safetensors.numpy import load

    from deepmd.exchange import unflatten

    content = verify(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = {name.split("/extra/", 1)[-1]: name for name in archive.namelist()}
            records = {key: archive.read(names[record]) for key, record in RECORDS.items()}
            compression = json.loads(archive.read(names[COMPRESSION])) if COMPRESSION in names else None
            modifier = archive.read(names[MODIFIER]) if MODIFIER in names else None
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{path}: the frozen model lacks a record ({error}); freeze it anew", "DP_ERROR_FORMAT"
        ) from error
    metadata = json.loads(records["metadata"])
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{path}: format version {metadata.get('format_version')}, expected {FORMAT_VERSION}; freeze it anew",
            "DP_ERROR_VERSION",
        )
    tree = unflatten(json.loads(records["tree"]), load(records["weights"]))
    return FrozenModel(metadata, tree, load(records["selftest"]), compression, modifier)
