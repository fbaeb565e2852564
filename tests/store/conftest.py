"""A library with videos that are no videos: the store never opens them."""

import os

import numpy as np
import pytest

from vitascope.store.catalogue import Found, Scanned, content_hash
from vitascope.store.library import Library
from vitascope.structures import Features


class Shelf:
    """A folder of files beside a library, and short ways to do what a scan and an extraction do."""

    def __init__(self, root):
        self.root = root
        self.data = root / "data"
        self.data.mkdir()
        self.library = Library(root / "library", create=True)

    def write(self, name, content=None):
        path = self.data / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode() if content is None else content)
        return str(path)

    def walk(self):
        found = []
        for folder, _, names in os.walk(self.data):
            for name in names:
                status = os.stat(os.path.join(folder, name))
                found.append(Found(os.path.join(folder, name), status.st_size, status.st_mtime_ns))
        return found

    def scan(self):
        changes = self.library.catalogue.changes(self.walk(), under=self.data)
        self.library.catalogue.apply(changes)
        self.library.catalogue.add(scanned(file) for file in changes.to_scan)
        return changes

    def put(self, path, values, model="m", hop=1.0, length=1.0, **manifest):
        starts = hop * np.arange(len(values))
        features = Features(np.asarray(values), np.stack([starts, starts + length], 1), manifest)
        self.library.features.put(self.library.catalogue.entry(path), model, features)


def scanned(file, state="done", **more):
    return Scanned(*file, content_hash(file.path), state, **more)


@pytest.fixture
def shelf(tmp_path):
    shelf = Shelf(tmp_path)
    yield shelf
    shelf.library.close()
