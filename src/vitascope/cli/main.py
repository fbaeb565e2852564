"""The console script: one verb a file, exit codes 0 done, 1 failed, 2 usage, 130/143 stopped by a signal."""

from __future__ import annotations

import os
import signal
import sys

import typer

from vitascope.cli import cache, demo, embed, evaluate, index, localize, repro, runs, scan, search, segment, show, train

app = typer.Typer(
    name="vitascope",
    help="Label-lite video understanding: scan a folder of video, train on it, search it, cut objects out, find actions.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (scan, cache, index, train, embed, search, segment, localize, evaluate, show, repro, runs, demo):
    app.command(verb.__name__.rpartition(".")[2], help=verb.__doc__)(verb.command)


def stop(signum: int, _frame: object) -> None:
    raise SystemExit(128 + signum)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: The words after `vitascope`; None for those of this process.

    Returns:
        The exit code.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads make a shared 2-core machine 5x slower
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        app(args=arguments)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(bool(exit_.code))
    except Exception as error:  # what is left is a failure of the work, told in one line
        if os.environ.get("VITASCOPE_TRACEBACK"):
            raise
        print(f"error: {describe(error)}", file=sys.stderr)
        return 1
    return 0


def describe(error: Exception) -> str:
    """The error as a sentence; the kind is added where the text alone would not tell."""
    told = isinstance(error, (ValueError, OSError)) or type(error).__module__.startswith("vitascope")
    hint = "" if told else " (set VITASCOPE_TRACEBACK=1 to see where)"
    return (str(error) if told and str(error) else f"{type(error).__name__}: {error}") + hint


if __name__ == "__main__":
    sys.exit(main())
