"""Arrays of Python objects from files that anyone may have written: numbers, texts and lists come out, nothing runs.

Public annotations and features are often NumPy object arrays, which are pickles, and a pickle may call any function.
Here it meets stand-ins for the few names that NumPy's own files need. They only keep what they are given, and arrays
are built from it afterwards, checked: NumPy's own reconstruction would take an item type whose flags a hostile file
has changed, and read pointers from it.
"""

from __future__ import annotations

import math
import os
import pickle
from typing import Any, BinaryIO

import numpy as np

KINDS = "biufcSUO"  # of items; records, dates and what else NumPy knows are in none of these files
PLAIN = (str, bytes, bytearray, int, float, complex, type(None))  # bool is an int


def load_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads a `.npy` file, also one that holds an array of Python objects.

    Args:
        path: The file. Texts that Python 2 wrote are bytes in it, and stay so.

    Returns:
        The array; of numbers it may be read-only.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or holds anything but numbers, texts, lists, tuples, dicts and arrays of these.

    Example:
        >>> import tempfile
        >>> names = np.array(["run", ["jump", 2.5], None], dtype=object)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(folder + "/a.npy", names)
        ...     load_npy(folder + "/a.npy").tolist()
        ['run', ['jump', 2.5], None]
    """
    with open(path, "rb") as file:
        try:
            shape, is_fortran, dtype = _header(file)
        except Exception as error:  # a damaged header may raise anything
            raise ValueError(f"{path} is not a .npy file ({error}); give one as numpy.save writes it") from None
        if not dtype.hasobject:
            size, wanted = os.fstat(file.fileno()).st_size, file.tell() + math.prod(shape) * dtype.itemsize
            if size < wanted:
                raise ValueError(f"{path} has {size} bytes, must have {wanted}; copy it again from its source")
            file.seek(0)
            return _numbers(file, path)
        array = _unpickled(file, path)
    if not isinstance(array, np.ndarray) or array.size != math.prod(shape):
        raise ValueError(f"{path} holds no array {list(shape)} as its header says; copy it again from its source")
    return array.reshape(shape, order="F" if is_fortran else "C")


def load_pickle(path: str | os.PathLike[str]) -> Any:
    """Reads a pickle of numbers, texts, lists, tuples, dicts and arrays of these; see `load_npy`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or holds anything else.
    """
    with open(path, "rb") as file:
        return _unpickled(file, path)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    return (
        (),
        False,
        np.dtype(np.float32),
    )  # version 3 is for records with names that are not ASCII: numpy refuses or reads


def _numbers(file: BinaryIO, path: str | os.PathLike[str]) -> np.ndarray:
    try:
        return np.load(file, allow_pickle=False)
    except Exception as error:
        raise ValueError(f"{path} cannot be read ({error}); copy it again from its source") from None


def _unpickled(file: BinaryIO, path: str | os.PathLike[str]) -> Any:
    try:
        return _built(_Unpickler(file, encoding="bytes").load(), {})
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {error}); only numbers, texts, lists and arrays of these "
            "are taken from it: save it again as such, or copy it again from its source"
        ) from None


class _Part:
    """What a pickle may make: it keeps what it was given. Its state can be set only where a file of NumPy does so."""

    def __init__(self, *given: Any) -> None:
        self.given = given

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("sets a state that NumPy never sets")


class _Dtype(_Part):
    state: tuple = ()

    def __setstate__(self, state: Any) -> None:
        self.state = tuple(state)

    def dtype(self) -> np.dtype:
        """The item type, of `KINDS`, rebuilt from its code and byte order alone."""
        code = self.given[0]
        code = code.decode("ascii") if isinstance(code, bytes) else code
        order = self.state[1] if len(self.state) > 1 else "="
        order = order.decode("ascii") if isinstance(order, bytes) else order
        dtype = np.dtype(code if isinstance(code, str) and "," not in code else "V1")
        if dtype.kind not in KINDS or any(part is not None for part in self.state[2:5]):
            raise pickle.UnpicklingError(f"holds items of type {code!r}")
        return dtype if order in ("=", "|") else dtype.newbyteorder(order)


class _Array(_Part):
    """`ndarray`, and `_reconstruct(ndarray, (0,), b"b")`: shape, type and content come as its state."""

    state: tuple = ()

    def __setstate__(self, state: Any) -> None:
        self.state = tuple(state)

    def array(self, memo: dict[int, Any]) -> np.ndarray:
        _, shape, dtype, is_fortran, content = self.state
        if dtype.dtype().kind != "O":
            return _from_bytes(content, dtype, shape, "F" if is_fortran else "C")
        if not isinstance(content, list):
            raise pickle.UnpicklingError(f"holds a {type(content).__name__} as items of type object")
        items = np.empty(len(content), object)
        for i, item in enumerate(content):  # one by one: numpy would make one array of lists of one length
            items[i] = _built(item, memo)
        return items.reshape(_checked_shape(shape, len(content)))  # a list is in C order whatever the flag says


class _Scalar(_Part):
    """`scalar(dtype, bytes)`."""

    def array(self, memo: dict[int, Any]) -> Any:
        dtype, content = self.given
        return _from_bytes(content, dtype, (), "C")[()]


class _FromBuffer(_Part):
    """`_frombuffer(bytes, dtype, shape, order)`, which protocol 5 uses."""

    def array(self, memo: dict[int, Any]) -> np.ndarray:
        content, dtype, shape, order = self.given
        return _from_bytes(content, dtype, shape, "F" if order in ("F", b"F") else "C")


class _Encoded(_Part):
    """`_codecs.encode(text, "latin1")`, as which protocols below 3 keep bytes, and `bytes()` if there are none."""

    def __new__(cls, text: str = "", encoding: Any = "latin1") -> bytes:  # type: ignore[misc]
        return text.encode("latin1")


_ALLOWED = {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype, ("_codecs", "encode"): _Encoded}
_ALLOWED |= {("__builtin__", "bytes"): _Encoded, ("builtins", "bytes"): _Encoded}
for _room in ("numpy.core", "numpy._core"):  # the name before NumPy 2, and since
    _ALLOWED[f"{_room}.multiarray", "_reconstruct"] = _Array
    _ALLOWED[f"{_room}.multiarray", "scalar"] = _Scalar
    _ALLOWED[f"{_room}.numeric", "_frombuffer"] = _FromBuffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return _ALLOWED[module, name]


def _from_bytes(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    item = dtype.dtype()
    if not isinstance(content, (bytes, bytearray)) or item.kind == "O" or item.itemsize == 0:
        raise pickle.UnpicklingError(f"holds a {type(content).__name__} as items of type {item}")
    items = np.frombuffer(content, item) if len(content) else np.empty(0, item)
    return items.reshape(_checked_shape(shape, len(items)), order=order)


def _checked_shape(shape: Any, count: int) -> tuple[int, ...]:
    shape = tuple(shape)
    if not all(isinstance(n, int) and n >= 0 for n in shape) or math.prod(shape) != count:
        raise pickle.UnpicklingError(f"holds {count} items as an array {list(shape)}")
    return shape


def _built(thing: Any, memo: dict[int, Any]) -> Any:
    """What a stand-in stands for, and the same of all that a list, tuple or dict holds."""
    if isinstance(thing, PLAIN):
        return thing
    if id(thing) in memo:
        if memo[id(thing)] is memo:
            raise pickle.UnpicklingError("holds a list that holds itself")
        return memo[id(thing)]
    memo[id(thing)] = memo  # begun
    if isinstance(thing, list):
        built: Any = [_built(item, memo) for item in thing]
    elif isinstance(thing, tuple):
        built = tuple(_built(item, memo) for item in thing)
    elif isinstance(thing, dict):
        built = {_built(key, memo): _built(value, memo) for key, value in thing.items()}
    elif isinstance(thing, (_Array, _Scalar, _FromBuffer)):
        built = thing.array(memo)
    else:
        raise pickle.UnpicklingError(f"holds a {type(thing).__name__.lstrip('_')}")
    memo[id(thing)] = built
    return built
