"""What a run finds in videos, written for people and programs: timelines in every format, pages, and what to doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitascope.engine.describe import Asked, Problems, Tools
from vitascope.engine.log import Status, read_metrics
from vitascope.engine.noise import NoisyTag, noisy_tags, silent_classes
from vitascope.engine.signals import Signals
from vitascope.methods.base import Method
from vitascope.store.atomic import WriteError
from vitascope.store.library import Library
from vitascope.store.schema import LibraryError
from vitascope.store.timeline_index import write_timeline_index
from vitascope.store.timeline_page import write_timeline_page
from vitascope.store.timeline_projects import Media
from vitascope.store.timelines import ONE_VIDEO, write_timelines
from vitascope.structures import NOTHING, Annotation, Localized, LocalizeSummary, Record, VideoError

FORMATS = {
    "activitynet": "timelines.json",
    "csv": "timelines.csv",
    "boris": "timelines.boris",
    "vtt": "vtt",
    "eaf": "eaf",
}
STRIP, STRIP_PIXELS = 18, 72  # pictures of a page's film strip, and their height
LIKELY = 0.3  # score from which on a proposal is counted as a likely one
LEAST_COVERAGE = 0.01  # share of confident snippets of a kind below which a stage teaches nothing
LARGEST_DRIFT = 2.0  # factor between rounds beyond which branches no longer settle
MOST_DOUBTED = 0.5  # share of the tags that can be wrong; beyond it, it is the run that is


def tell(
    library: Library,
    method: Method,
    records: list[Record],
    problems: Problems,
    run: str,
    tools: Tools,
    asked: Asked,
    advice: Sequence[str] = (),
) -> LocalizeSummary:
    """Find the actions of all videos, and write them in every format, a page for each, and what is odd in the tags."""
    found, pages, signum = find_all(library, method, records, problems, tools, asked)
    if signum is not None:
        return stopped(asked, problems, signum, run)
    files = write_all(asked.out, found, library)
    tags = {record.id: record.labels for record in records}
    doubts = noisy_tags(tags, found, method.config)
    summary = LocalizeSummary(
        out=str(asked.out),
        library=str(library.path),
        run=run,
        num_videos=len(found),
        num_tagged=sum(bool(labels) for labels in tags.values()),
        num_segments=sum(len(one.segments.labels) for one in found.values()),
        num_likely=sum(int((one.segments.scores >= LIKELY).sum()) for one in found.values()),
        classes=tuple(counted(method.config.classes, tags.values(), found.values())),
        problems=tuple(problems),
        doubts=tuple(doubts),
        advice=(*advice, *advice_on_tags(tags, doubts, silent_classes(tags, found)), *advice_on_files(asked, found)),
        files=tuple(map(str, files)),
    )
    index = write_timeline_index(asked.out / "index.html", summary, found, pages)
    return replace(summary, files=(str(index), *summary.files))


def find_all(
    library: Library, method: Method, records: list[Record], problems: Problems, tools: Tools, asked: Asked
) -> tuple[dict[str, Localized], dict[str, Path], int | None]:
    """What is found in each video, their pages, both by id, and the signal that ended it; `problems` grow."""
    found, pages, shown = {}, {}, asked.shown
    known = known_of(records, asked.known, tools.annotations.video_id)
    with Signals(lambda: None, raises=False) as signals:
        for done, record in enumerate(records, 1):
            try:
                found[record.id] = find(library, method, record, known[record.id])
            except VideoError as error:
                problems.append((record.path, f"{error.reason}: {error.detail}"))
            if asked.pages and record.id in found:
                pages |= page_of(record, found[record.id], problems, tools, asked)
            if signals.signum is not None:
                break
            if shown:
                shown(Status("localize", done, len(records), None, None))
    return found, pages, signals.signum


def known_of(
    records: Sequence[Record], known: dict[str, Annotation], video_id: Callable[[str], str]
) -> dict[str, Annotation]:
    """What annotations say of each record, by its id; they may leave out folder and suffix, where that leaves one video."""
    names = Counter(video_id(Path(record.id).stem) for record in records)
    by_id = {video_id(name): one for name, one in known.items() if names[video_id(name)] == 1}
    return {
        record.id: known.get(record.id) or by_id.get(video_id(Path(record.id).stem)) or Annotation(record.id)
        for record in records
    }


def find(library: Library, method: Method, record: Record, known: Annotation) -> Localized:
    """The actions of one video, with its whole length and its truth, if that is known.

    Raises:
        VideoError: Its features cannot be read.
    """
    localized = method.localize(record)
    duration = about(library, record.path).get("duration_seconds", known.duration_seconds)
    return replace(
        localized,
        duration_seconds=max(float(duration or 0), localized.duration_seconds),
        truth=known.segments,
    )


def about(library: Library, path: str) -> dict[str, Any]:
    """What a scan found out about a video; nothing where its features came without it."""
    try:
        return library.catalogue.entry(path).metadata
    except LibraryError:
        return {}


def page_of(record: Record, localized: Localized, problems: Problems, tools: Tools, asked: Asked) -> dict[str, Path]:
    """The page of a video by its id; nothing where it cannot be written, which `problems` tell."""
    try:
        return {record.id: write_page(asked.out / "pages" / f"{record.id}.html", localized, tools)}
    except WriteError as error:
        problems.append((record.path, f"it has no page: {error}"))
        return {}


def write_page(path: Path, localized: Localized, tools: Tools) -> Path:
    """A page of one video; where its frames cannot be read again, without a film strip."""
    try:
        step = localized.duration_seconds / STRIP
        middle = (step / 2, localized.duration_seconds - step / 2)
        pictures = tools.snippets.film_strip(localized.path, *middle, STRIP, STRIP_PIXELS)
    except VideoError:
        pictures = None
    return write_timeline_page(path, localized, pictures)


def write_all(out: Path, found: dict[str, Localized], library: Library) -> list[Path]:
    """Write the timelines in every format; returns the files of all videos together."""
    timelines = {name: one.segments for name, one in found.items()}
    media = {}
    for name, one in found.items():
        media[name] = Media(one.path, one.duration_seconds, about(library, one.path).get("average_fps"))
    files = []
    for kind, name in FORMATS.items():
        written = write_timelines(out / name, timelines, kind, media=media)
        files += [] if kind in ONE_VIDEO else written
    return files


def counted(
    classes: Sequence[str], tags: Iterable[Sequence[str]], found: Iterable[Localized]
) -> list[tuple[str, int, int]]:
    """Of each class the videos that are tagged with it, and those that it was found in."""
    tagged = Counter(name for labels in tags for name in set(labels))
    seen = Counter(name for one in found for name in set(one.segments.labels))
    return [(name, tagged[name], seen[name]) for name in classes]


def advice_on_files(asked: Asked, found: dict[str, Localized]) -> tuple[str, ...]:
    """True times that are of none of the videos, and files of videos that were asked for earlier."""
    advice = []
    if asked.truth and not any(one.truth is not None for one in found.values()):
        advice.append(
            f"{asked.truth} has times of none of these videos, so no page shows them; name each as {next(iter(found), '')!r}"
        )
    old = [
        path.relative_to(asked.out).as_posix()
        for kind, suffix in (("pages", ".html"), ("vtt", ".vtt"), ("eaf", ".eaf"))
        for path in sorted((asked.out / kind).rglob(f"*{suffix}"))
        if path.relative_to(asked.out / kind).as_posix().removesuffix(suffix) not in found
    ]
    if old:
        advice.append(f"{len(old)} files in {asked.out} are of videos of an earlier call, such as {old[0]}")
    return tuple(advice)


def advice_on_tags(
    tags: dict[str, tuple[str, ...]], doubts: Sequence[NoisyTag], silent: Sequence[str]
) -> tuple[str, ...]:
    """What classes without a confident moment mean, and tags that are mostly doubted."""
    advice, count = [], sum(map(len, tags.values()))
    suspicious = sum(doubt.kind == "suspicious" for doubt in doubts)
    if suspicious > MOST_DOUBTED * count:
        return (
            f"{suspicious} of {count} tags are never seen for certain, so it is what was learned that is in doubt, rather than "
            "the tags: train longer (--set warmup_steps=1000), tag more videos, or try another --encoder",
        )
    if silent:
        names = ", ".join(map(repr, silent))
        advice.append(
            f"{names}: no confident moment in any video tagged so; the tags may be wrong, or these features cannot tell it"
        )
    return tuple(advice)


def advice_on_learning(
    folder: str | Path, tagged: Sequence[Record], records: Sequence[Record], lost: Sequence[str] = ()
) -> tuple[str, ...]:
    """What the training itself says about how far it can be trusted; `lost` are tags of videos that cannot be used."""
    advice, untagged = [], len(records) - len(tagged)
    if lost:
        advice.append(f"{', '.join(map(repr, lost))}: tagged in no video that can be used, so it is not looked for")
    if untagged:
        what = "video without a tag" if untagged == 1 else "videos without a tag"
        advice.append(f"{untagged} {what} to learn from: localized by what was learned from the others")
    tags = {label for record in tagged for label in record.labels}
    if len(tags) == 1:
        advice.append(
            f"all videos have the one tag {next(iter(tags))!r}, so nothing told it from anything else, and times are near "
            f"arbitrary; tag some videos in which it does not happen {NOTHING!r}, or with what else happens"
        )
    stages: dict[str, dict[str, Any]] = {line["stage"]: line for line in read_metrics(Path(folder))}  # the last of each
    taught = {name: line for name, line in stages.items() if "foreground" in line}
    return (*advice, *advice_on_coverage(taught))


def advice_on_coverage(taught: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """When to stop or not to begin: teaching by too few confident snippets, and shares that drift from round to round.

    Args:
        taught: By the name of each stage (B1, F1, B2, ...) the shares `foreground` and `background`.

    Example:
        >>> advice_on_coverage({"B1": {"foreground": 0.2, "background": 0.005}})[0][:57]
        'in stage B1 less than 1 % of the snippets were confident '
    """
    advice = []
    for kind in ("foreground", "background"):
        poor = next((name for name, line in taught.items() if line[kind] < LEAST_COVERAGE), None)
        if poor:
            advice.append(
                f"in stage {poor} less than 1 % of the snippets were confident {kind}, so that branch taught little; look at "
                "the pages, or take --recipe cbp-only-small"
            )
            continue
        for branch in "BF":
            rounds = [(name, line[kind]) for name, line in taught.items() if name.startswith(branch)]
            advice += advice_on_drift(kind, rounds)
    return tuple(advice)


def advice_on_drift(kind: str, rounds: Sequence[tuple[str, float]]) -> tuple[str, ...]:
    """What to do where the share of confident snippets of a kind goes on changing; `rounds` are stages and shares."""
    if len(rounds) < 2:
        return ()
    (first, before), *_, (last, now) = rounds
    if 1 / LARGEST_DRIFT < now / before < LARGEST_DRIFT:
        return ()
    return (
        f"confident {kind} went from {100 * before:.0f} to {100 * now:.0f} % of the snippets between {first} and {last}: the "
        "branches do not settle; fewer rounds (--set rounds=1) may be better",
    )


def stopped(asked: Asked, problems: Problems, signal: int | None, run: str = "") -> LocalizeSummary:
    """What is told of work that a signal ended."""
    return LocalizeSummary(out=str(asked.out), library="", run=run, problems=tuple(problems), signal=signal)
