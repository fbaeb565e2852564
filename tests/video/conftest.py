"""The generated files, made once for all tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest
from video_cases import CASES


@pytest.fixture(scope="session")
def cases(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("cases")
    for case in CASES:
        case.make(folder / case.name)
    return {case.name: folder / case.name for case in CASES}
