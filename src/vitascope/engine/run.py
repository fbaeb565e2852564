"""The state of a training run: what is done, what could not be read, how it is saved and taken up again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from pydantic import ValidationError
from torch import nn

from vitascope.engine import checkpoint
from vitascope.engine.checkpoint import Checkpoint, CheckpointError
from vitascope.engine.distributed import Share
from vitascope.engine.loader import Skipped
from vitascope.engine.log import Log, Status
from vitascope.engine.sampler import num_steps
from vitascope.engine.settings import TrainSettings
from vitascope.methods.base import Method, Stage
from vitascope.store import atomic
from vitascope.structures import Record

MOST_EMPTY_BATCHES = 8
# what the numbers of a run follow from; the other settings may change when it is resumed
FIXED_SETTINGS = ("seed", "precision", "micro_batch")
RECORDS = "records.json"  # in a run's folder: the names of the records it began with, by data set


class EveryVideoUnreadable(Exception):
    """Training stopped because there is nothing to read; `unreadable` lists the videos."""

    def __init__(self, message: str, unreadable: tuple[Skipped, ...]) -> None:
        super().__init__(message, unreadable)
        self.unreadable = unreadable

    def __str__(self) -> str:
        return str(self.args[0])


class OtherRun(CheckpointError):
    """A run was to be resumed with something else than it was begun with; nothing of it has changed."""


class Span(NamedTuple):
    """A stage's place in a run, in steps `[first, last)`."""

    stage: Stage
    records: Sequence[Record]
    first: int
    last: int


class Kept:
    """Copies of what changes outside the optimiser (buffers, averaged weights) as of the last completed step.

    A forward pass updates them, so a run that is interrupted within a step puts them back before it saves. Buffers are
    copied after each step (batch norm writes its statistics without a trace), parameters that do not learn only when
    their version tells that they were written to; writing through their `.data` does not count.
    """

    def __init__(self, module: nn.Module) -> None:
        buffers = dict(module.named_buffers())
        self._frozen = {name: p for name, p in module.named_parameters() if not p.requires_grad}
        self._module = module
        self._copies = {name: t.detach().clone() for name, t in {**buffers, **self._frozen}.items()}
        self._versions = {name: p._version for name, p in self._frozen.items()}

    @torch.no_grad()
    def refresh(self) -> None:
        """Take copies after a completed step."""
        for name, buffer in self._module.named_buffers():
            self._copies[name].copy_(buffer)
        for name, parameter in self._frozen.items():
            if parameter._version != self._versions[name]:
                self._copies[name].copy_(parameter)
                self._versions[name] = parameter._version

    @torch.no_grad()
    def restore(self) -> None:
        """Put the copies back."""
        for name, tensor in {**dict(self._module.named_buffers()), **self._frozen}.items():
            tensor.copy_(self._copies[name])


@dataclass
class Run:
    """One training run and its folder. `step` counts completed steps over all stages."""

    method: Method
    settings: TrainSettings
    run_dir: Path
    accelerator: Accelerator
    plan: list[Span]
    identity: dict[str, str]  # names of the method and of the recipe
    step: int = 0
    unreadable: dict[str, Skipped] = field(default_factory=dict)  # by path, in the order met
    failing: set[int] = field(default_factory=set)  # records of the present stage whose last reading failed
    optimizer: Any = None  # of the present stage
    kept: Kept | None = None
    resumed: Checkpoint | None = None
    saved_step: int = 0
    empty_batches: int = 0  # in a row
    log: Log | None = None  # in the main process

    @property
    def total(self) -> int:
        """Steps of all stages."""
        return self.plan[-1].last

    @property
    def goal(self) -> int:
        """Steps after which this call stops."""
        return min(self.total, self.settings.max_steps or self.total)

    def remaining(self) -> Iterator[Span]:
        """Yield the stages that are not done yet, each when those before it are."""
        for span in self.plan:
            if self.step < min(span.last, self.goal):
                yield span

    def resume(self) -> None:
        """Take up the newest checkpoint of the folder, if there is one.

        Raises:
            CheckpointError: It is damaged.
            OtherRun: It is of another configuration, data or seed.
        """
        if self.accelerator.is_main_process:
            (self.run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
            atomic.remove_stray(self.run_dir / "checkpoints")
            atomic.remove_stray(self.run_dir)
        self.accelerator.wait_for_everyone()
        found = checkpoint.newest(self.run_dir)
        if found is None:
            if self.accelerator.is_main_process:
                names = {span.stage.data: [_name(record) for record in span.records] for span in self.plan}
                atomic.write_json(self.run_dir / RECORDS, names)
            return
        self._require_same(found)
        checkpoint.load_weights(self.method, found.weights, str(found.path))
        self.resumed, trainer = found, found.trainer
        self.step = self.saved_step = trainer["step"]
        self.unreadable = {fields[1]: Skipped(*fields) for fields in trainer["unreadable"]}
        self.failing = set(trainer["failing"])
        if self.accelerator.scaler is not None and trainer["scaler"]:
            self.accelerator.scaler.load_state_dict(trainer["scaler"])

    @contextmanager
    def open_log(self, progress: Callable[[Status], Any] | None) -> Iterator[None]:
        """Within the block the main process has a `log`."""
        if not self.accelerator.is_main_process:
            yield
            return
        self.log = Log(self.run_dir, self.step, self.settings.tensorboard, progress)
        try:
            yield
        finally:
            self.log.close()

    def begin(self, span: Span, optimizer: Any) -> None:
        """Enter a stage, at its start or where the checkpoint left it."""
        self.optimizer = optimizer
        if self.step == span.first:
            self.failing.clear()
        else:
            checkpoint.load_optimizer(optimizer, self.resumed.optimizer, str(self.resumed.path))
        self.resumed = None  # its tensors are no longer needed

    def is_logged(self, span: Span) -> bool:
        """Whether the step under way gets a line of metrics: every n-th, and the last of a stage."""
        return (self.step + 1) % self.settings.log_every == 0 or self.step + 1 == span.last

    @contextmanager
    def learning(self, names: Sequence[str]) -> Iterator[None]:
        """Within the block the named parameters require gradients, the others do not."""
        before = {name: p.requires_grad for name, p in self.method.named_parameters()}
        for name, parameter in self.method.named_parameters():
            parameter.requires_grad_(name in set(names))
        self.kept = Kept(self.method)
        try:
            yield
        except BaseException:  # perhaps within a step
            self.kept.restore()
            raise
        finally:
            self.kept = None
            for name, parameter in self.method.named_parameters():
                parameter.requires_grad_(before[name])

    def complete(self, share: Share) -> None:
        """Count a step as done."""
        self.step += 1
        self.failing -= set(share.read)
        for skipped in share.skipped:
            self.failing.add(skipped.index)
            self.unreadable.setdefault(skipped.path, skipped)
        self.empty_batches = 0 if share.read else self.empty_batches + 1
        self.kept.refresh()

    def require_readable(self, span: Span) -> None:
        """Stop when nothing can be read: never loop.

        Raises:
            EveryVideoUnreadable: The last batch was empty and every record failed, or so were 8 batches in a row.
        """
        all_fail = len(self.failing) == len(span.records)
        if not self.empty_batches or not (all_fail or self.empty_batches >= MOST_EMPTY_BATCHES):
            return
        what = f"every one of the {len(span.records)} records" if all_fail else f"{self.empty_batches} batches in a row"
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons().items())
        first = next(iter(self.unreadable.values()))
        raise EveryVideoUnreadable(
            f"{what} of data set {span.stage.data!r} cannot be read (videos: {reasons}), for example "
            f"{first.path}: {first.detail}; check the files and the data set's root folder",
            tuple(self.unreadable.values()),
        )

    def reasons(self) -> dict[str, int]:
        """Count the unreadable videos by reason."""
        counts: dict[str, int] = {}
        for skipped in self.unreadable.values():
            counts[skipped.reason] = counts.get(skipped.reason, 0) + 1
        return dict(sorted(counts.items()))

    def save(self) -> None:
        """Write a checkpoint of the last completed step, unless there is one."""
        if self.step == self.saved_step:
            return
        if self.accelerator.is_main_process:
            self.log.sync()
            state = Checkpoint(
                checkpoint.folder_of(self.run_dir, self.step),
                checkpoint.weights_of(self.method),
                checkpoint.optimizer_tensors(self.optimizer),
                self._config(),
                self._trainer(),
            )
            checkpoint.write(self.run_dir, self.step, state, self.settings.keep_last)
        self.saved_step = self.step

    def rescue(self) -> None:
        """Save from within a step: first put back what the forward pass changed."""
        kept = self.kept
        if kept is not None:
            kept.restore()
        self.save()

    def _config(self) -> dict[str, Any]:
        return {**self.identity, "config": self.method.config.model_dump(mode="json")}

    def _trainer(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "stage": next(span.stage.name for span in self.plan if self.step <= span.last),
            "total": self.total,
            "settings": self.settings.model_dump(mode="json"),
            "data": {span.stage.data: fingerprint(span.records) for span in self.plan},
            "unreadable": [list(skipped) for skipped in self.unreadable.values()],
            "failing": sorted(self.failing),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "versions": {name: importlib.metadata.version(name) for name in ("vitascope", "torch", "accelerate")},
        }

    def _require_same(self, found: Checkpoint) -> None:
        config = found.config.get("config", {})
        with suppress(ValidationError):  # fields that came since the run began have their defaults
            config = type(self.method.config).model_validate(config).model_dump(mode="json")
        saved = {
            **found.config,
            "config": config,
            "settings": {name: found.trainer["settings"].get(name) for name in FIXED_SETTINGS},
        }
        settings = {name: getattr(self.settings, name) for name in FIXED_SETTINGS}
        different = difference(saved, {**self._config(), "settings": settings})
        if different is not None:
            name, before, after = different
            raise OtherRun(
                f"{name} of the run in {self.run_dir} is {before!r}, here it is {after!r}; "
                "resume with the same, or begin a fresh run"
            )
        for span in self.plan:
            before, after = found.trainer["data"].get(span.stage.data), fingerprint(span.records)
            if before != after:
                raise OtherRun(
                    f"data set {span.stage.data!r} of the run in {self.run_dir} has changed since it began: "
                    f"{self._changes(span) or f'{before}, now {after}'}; resume with the same, or begin a fresh run"
                )

    def _changes(self, span: Span) -> str:
        """Which records of a data set are new or missing; empty if the run's folder does not tell."""
        try:
            before = json.loads((self.run_dir / RECORDS).read_bytes())[span.stage.data]
        except (OSError, ValueError, KeyError):  # a run of a version that kept no names
            return ""
        after = [_name(record) for record in span.records]
        new, missing = (sorted(set(a) - set(b)) for a, b in ((after, before), (before, after)))
        told = [
            f"{len(names)} {what} (first {names[0]})" for what, names in (("new", new), ("missing", missing)) if names
        ]
        return " and ".join(told) or "the same names, with other labels or times or in another order"


def _name(record: Record) -> str:
    return record.id or record.path


def fingerprint(records: Sequence[Record]) -> str:
    """Return a digest of records, to notice that a run is resumed with others; the files' folder may change."""
    digest = hashlib.blake2b(digest_size=8)
    for r in records:
        digest.update(repr((_name(r), r.labels, r.start_seconds, r.end_seconds, r.split)).encode())
    return f"{len(records)} records, {digest.hexdigest()}"


def make_plan(method: Method, records: dict[str, list[Record]]) -> list[Span]:
    """Lay the stages of a method end to end.

    Raises:
        ValueError: A data set is absent or empty, or two stages have one name.
    """
    plan: list[Span] = []
    for stage in method.stages():
        if not records.get(stage.data):
            have = ", ".join(f"{name} ({len(found)} records)" for name, found in records.items()) or "none"
            raise ValueError(f"stage {stage.name!r} needs records of data set {stage.data!r}; given: {have}")
        if stage.name in [span.stage.name for span in plan]:
            raise ValueError(f"stage name {stage.name!r} comes twice; randomness follows from it, so make it unique")
        first = plan[-1].last if plan else 0
        last = first + num_steps(stage, len(records[stage.data]))
        plan.append(Span(stage, records[stage.data], first, last))
    if not plan:
        raise ValueError(f"{type(method).__name__} has no stages; there is nothing to train")
    return plan


def difference(before: Any, after: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """Return the dotted name of the first difference of two JSON-like values and both values, or None.

    Example:
        >>> difference({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
        ('a.c', 2, 3)
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            found = difference(before.get(key), after.get(key), f"{name}.{key}" if name else key)
            if found is not None:
                return found
        return None
    return None if before == after else (name, before, after)
