"""Search of a library by one moment of a video, which may be in it or not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vitascope.methods.base import Method
from vitascope.store.library import Library
from vitascope.structures import SearchSummary


def search(
    library: Library,
    like: tuple[str | os.PathLike, float],
    load_method: Callable[[Path], Method],
    snippet_at: Callable[..., Any],
    *,
    run: str | None = None,
    k: int = 10,
    elsewhere: bool = False,
) -> SearchSummary:
    """Find the snippets most like one moment; its own comes first if it is in the library.

    Args:
        library: What is searched.
        like: A video and a time in seconds.
        load_method: Gives the method of a run's folder.
        snippet_at: `(path, seconds, num_frames=, stride_frames=, fps=, size=)` -> the clip uint8 `[T, C, H, W]` there.
        run: Beginning of the id of the run whose vectors are compared; None for the newest that has some.
        k: How many.
        elsewhere: Whether moments of the video itself are left out.

    Raises:
        LibraryError: There are no vectors.
        VideoError: The video is not in the library and cannot be read.
    """
    path, seconds = os.path.abspath(like[0]), float(like[1])
    query = library.vector_at(run := library.embedded_run(run), path, seconds)
    if query is None:  # not in the library: read and embedded now
        method = load_method(library.runs.find(run).folder)
        with torch.inference_mode():
            query = method.features(snippet_at(path, seconds, **method.snippet.model_dump())[None]).numpy()[0]
    return library.search(query, k, run, path, seconds, elsewhere)
