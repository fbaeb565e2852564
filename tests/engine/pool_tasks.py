"""Functions that worker processes can import, for test_pool.py."""

import ctypes
import os
import sys
import time


def square(x):
    return x * x


def short(x):
    time.sleep(0.005)
    return x


def crash_on_three(x):
    if x == 3:
        ctypes.string_at(0)
    return x


def hang_on_three(x):
    while x == 3:
        time.sleep(0.1)
    return x


def hang_natively(x):
    if x == 3:  # PyDLL holds the interpreter: neither threads nor Python's signal handlers run
        ctypes.PyDLL(None).sleep(600)
    return x


def die_once(path):
    """Dies the first time that it sees a path."""
    if not os.path.exists(path):
        open(path, "w").close()
        os._exit(7)
    return "alive"


def fail(x):
    raise ValueError(f"{x} is odd")


def unsendable(x):
    return lambda: x


def heavy_modules(x):
    return [name for name in ("torch", "transformers", "faiss", "av", "numpy") if name in sys.modules]


def write_pid_and_sleep(path):
    with open(path + ".tmp", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".tmp", path)
    time.sleep(600)
