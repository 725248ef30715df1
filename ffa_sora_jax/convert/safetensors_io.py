"""Weight files: safetensors (single, or sharded with an index), and PyTorch files on request.

A safetensors file is an 8-byte little-endian header length, a JSON header that gives dtype, shape
and byte range of every tensor, and the bytes. Reading maps the file into memory and touches only
what is asked for. Files that we write carry a SHA-256 of their bytes in the header, which is
verified when they are read again; the format itself has no checksum.
"""

import hashlib
import json
import math
import mmap
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64), "F32": np.dtype(np.float32), "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16), "I64": np.dtype(np.int64), "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16), "I8": np.dtype(np.int8), "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
SAFETENSORS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
TORCH_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
MAX_HEADER_BYTES = 100 * 2**20
SHA_KEY = "sha256"


class SafetensorsFile(Mapping[str, np.ndarray]):
    """The tensors of one file, read when asked for.

    Raises:
      ValueError: the file is truncated, its header is unreadable or contradicts its size, or its
        bytes differ from the checksum it was written with.
    """

    def __init__(self, path: Path):
        self._path = path
        size = path.stat().st_size
        if size < 8:
            raise ValueError(corrupt(path, f"it has {size} bytes, less than a header"))
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length = int.from_bytes(self._bytes[:8], "little")
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise ValueError(corrupt(path, f"its header claims {length} of {size} bytes"))
        self._start = 8 + length
        self.metadata, self._tensors = _parse_header(path, self._bytes[8 : 8 + length])
        _check_ranges(path, self._tensors, size - self._start)
        self._verify()

    def __getitem__(self, key: str) -> np.ndarray:
        entry = self._tensors[key]
        begin, _ = entry["data_offsets"]
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        flat = np.frombuffer(self._bytes, dtype, count=math.prod(shape), offset=self._start + begin)
        return flat.reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def _verify(self) -> None:
        expected = self.metadata.get(SHA_KEY)
        if expected is None:
            return
        digest = hashlib.sha256(memoryview(self._bytes)[self._start :]).hexdigest()
        if digest != expected:
            raise ValueError(corrupt(self._path, "its bytes differ from the checksum it carries"))


class Sharded(Mapping[str, np.ndarray]):
    """Several mappings as one; every key lies in exactly one of them."""

    def __init__(self, owner: Mapping[str, Mapping[str, np.ndarray]]):
        self._owner = owner

    def __getitem__(self, key: str) -> np.ndarray:
        return self._owner[key][key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._owner)

    def __len__(self) -> int:
        return len(self._owner)


class Renamed(Mapping[str, np.ndarray]):
    """A mapping under other keys; `names` gives the stored key of every new one."""

    def __init__(self, stored: Mapping[str, np.ndarray], names: Mapping[str, str]):
        self._stored, self._names = stored, names

    def __getitem__(self, key: str) -> np.ndarray:
        return self._stored[self._names[key]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def find_weights(directory: Path) -> Path:
    """The weight file of a folder, or the index of its shards.

    Safetensors go before PyTorch files.

    Raises:
      FileNotFoundError: no weights; lists the names that are looked for.
      ValueError: several candidates and no way to tell which.
    """
    standard = [name for base in SAFETENSORS for name in (base, f"{base}.index.json")]
    for name in (*standard, "pytorch_model.bin", "pytorch_model.bin.index.json"):
        if (directory / name).is_file():
            return directory / name
    for suffixes in ((".safetensors",), TORCH_SUFFIXES):
        found = sorted(p for p in directory.iterdir() if p.suffix in suffixes)
        if len(found) > 1:
            raise ValueError(
                f"{directory} holds several weight files: {[p.name for p in found]}. "
                f"Keep one, or name it {SAFETENSORS[0]}."
            )
        if found:
            return found[0]
    raise FileNotFoundError(
        f"No weights in {directory}. Looked for {', '.join(standard)}, pytorch_model.bin, and "
        f"single files ending in .safetensors {' '.join(TORCH_SUFFIXES)}."
    )


def open_weights(path: Path) -> Mapping[str, np.ndarray]:
    """Opens a weight file, or the shards that an index lists.

    Raises:
      FileNotFoundError: the file or a shard is missing.
      ValueError: a file is empty or corrupt, or the index and the shards disagree.
    """
    if not path.stat().st_size:
        raise ValueError(corrupt(path, "it is empty"))
    if path.name.endswith(".index.json"):
        return _open_index(path)
    return SafetensorsFile(path) if path.suffix == ".safetensors" else _open_torch(path)


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes one file, tensor by tensor, with a checksum in its header.

    Raises:
      ValueError: a dtype that the format does not know.
    """
    order = sorted(tensors, key=lambda key: (-tensors[key].dtype.itemsize, key))
    header: dict[str, Any] = {}
    digest, offset = hashlib.sha256(), 0
    for key in order:
        array = tensors[key]
        if array.dtype not in _NAMES:
            raise ValueError(f"{key!r} has dtype {array.dtype}; allowed: {sorted(DTYPES)}.")
        data_offsets = [offset, offset + array.nbytes]
        header[key] = {
            "dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": data_offsets,
        }  # fmt: skip
        digest.update(raw_bytes(array))
        offset += array.nbytes
    header["__metadata__"] = {"format": "pt", SHA_KEY: digest.hexdigest()}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format wants the data aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key in order:
            file.write(raw_bytes(tensors[key]))


def write_sharded(
    directory: Path, name: str, tensors: Mapping[str, np.ndarray], max_bytes: int
) -> None:
    """Writes `name` as one file, or as shards of at most `max_bytes` with an index."""
    groups = _groups(tensors, max_bytes)
    if len(groups) == 1:
        write_safetensors(directory / name, tensors)
        return
    stem = name.removesuffix(".safetensors")
    weight_map: dict[str, str] = {}
    for i, keys in enumerate(groups):
        shard = f"{stem}-{i + 1:05d}-of-{len(groups):05d}.safetensors"
        write_safetensors(directory / shard, {key: tensors[key] for key in keys})
        weight_map.update(dict.fromkeys(keys, shard))
    total = sum(array.nbytes for array in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (directory / f"{name}.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _groups(tensors: Mapping[str, np.ndarray], max_bytes: int) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    filled = 0
    for key, array in tensors.items():
        if groups[-1] and filled + array.nbytes > max_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(key)
        filled += array.nbytes
    return groups


def raw_bytes(array: np.ndarray) -> memoryview:
    """The bytes of an array in C order, without a copy where it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def corrupt(path: Path, why: str) -> str:
    """The text of an error about a file that cannot be read."""
    return f"{path} is corrupt: {why}. Copy or download it again."


def _parse_header(path: Path, text: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", {})
        for entry in header.values():
            entry["dtype"], entry["shape"], entry["data_offsets"]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(corrupt(path, f"its header is unreadable ({error!r})")) from error
    return metadata, header


def _check_ranges(path: Path, tensors: Mapping[str, Any], size: int) -> None:
    for key, entry in tensors.items():
        begin, end = entry["data_offsets"]
        if entry["dtype"] not in DTYPES:
            raise ValueError(
                f"{path}: {key!r} has dtype {entry['dtype']}; readable: {sorted(DTYPES)}."
            )
        needed = math.prod(entry["shape"]) * DTYPES[entry["dtype"]].itemsize
        if not 0 <= begin <= end <= size or end - begin != needed:
            raise ValueError(
                corrupt(path, f"{key!r} needs bytes {begin}..{end} of {size}, {needed} in all")
            )


def _open_index(path: Path) -> Sharded:
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(corrupt(path, f"no weight_map can be read ({error!r})")) from error
    missing = [name for name in shards if not (path.parent / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{path} lists shards that are not there: {missing}.")
    files = {name: open_weights(path.parent / name) for name in shards}
    for name, file in files.items():
        listed = {key for key, shard in weight_map.items() if shard == name}
        if listed != set(file):
            raise ValueError(
                f"{path} and {name} disagree. Only in the index: {sorted(listed - set(file))}; "
                f"only in the shard: {sorted(set(file) - listed)}."
            )
    return Sharded({key: files[shard] for key, shard in weight_map.items()})


def _open_torch(path: Path) -> dict[str, np.ndarray]:
    """A PyTorch file, without running the code that a pickle may hold."""
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"{path} is a PyTorch file; reading it needs torch (pip install torch), or convert it "
            "to safetensors first."
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(corrupt(path, f"torch cannot read it ({error})")) from error
    return {key: _from_torch(torch, value) for key, value in _unwrap(state).items()}


def _unwrap(
    state: Any, keys: Sequence[str] = ("state_dict", "gen_model", "model", "module")
) -> Any:
    """The weights inside the wrappings that training scripts put around them."""
    while isinstance(state, Mapping) and (found := [k for k in keys if k in state]):
        state = state[found[0]]
    return state


def _from_torch(torch: Any, tensor: Any) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:  # numpy has no bfloat16 of its own
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
