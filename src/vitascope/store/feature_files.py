"""Features of one video as a file of their own, without a library: the same safetensors file that a library keeps."""

from __future__ import annotations

import json
import os

from vitascope.store.atomic import write_bytes
from vitascope.store.features import checked
from vitascope.structures import Features


def write_features(path: str | os.PathLike[str], features: Features) -> None:
    """Write features whole or not at all: `values`, `times_seconds`, and the manifest as JSON in the metadata.

    Args:
        path: The file, `.safetensors` by custom; its folder exists.
        features: `values` float16 or float32 `[S, D]` finite; `times_seconds` `[S, 2]` in ascending order.

    Raises:
        ValueError: The arrays do not have these shapes, dtypes or values.
        WriteError: The system refuses; an older file is untouched.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> times = np.array([[0, 0.64], [0.64, 1.28]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_features(folder + "/a.safetensors", Features(np.eye(2, dtype=np.float32), times, {"fps": 25}))
        ...     read_features(folder + "/a.safetensors").manifest
        {'fps': 25, 'dtype': 'float32'}
    """
    from safetensors.numpy import save

    values, times = checked(features)
    manifest = json.dumps(features.manifest | {"dtype": str(values.dtype)})
    write_bytes(path, save({"values": values, "times_seconds": times}, {"manifest": manifest}))


def read_features(path: str | os.PathLike[str]) -> Features:
    """Read features as `write_features` or a library wrote them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            manifest = json.loads(file.metadata()["manifest"])
            found = Features(file.get_tensor("values"), file.get_tensor("times_seconds"), manifest)
        return Features(*checked(found), manifest)
    except FileNotFoundError:
        raise FileNotFoundError(f"features ({path}) do not exist; give the path of a file of features") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the features cannot be read ({error}); make the file again") from error
