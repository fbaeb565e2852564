"""vitascope: label-lite video understanding. The public names, loaded on first use; nothing else."""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "scan": "vitascope.api",
    "train": "vitascope.api",
    "embed": "vitascope.api",
    "search": "vitascope.api",
    "load_method": "vitascope.api",
    "VideoReader": "vitascope.video.reader",
    "probe": "vitascope.video.probe",
    "VideoWriter": "vitascope.video.writer",
    "Library": "vitascope.store.library",
    "Record": "vitascope.structures",
    "Clip": "vitascope.structures",
    "Features": "vitascope.structures",
    "VideoError": "vitascope.structures",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'vitascope' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
