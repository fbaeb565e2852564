"""Claims of the methods, measured anew: from worlds and trials to the page that tells what is held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from vitascope.engine.configure import override
from vitascope.engine.log import Progress
from vitascope.evaluation import hico_claims, motion_claims, wtal_claims, wtal_world_claims
from vitascope.evaluation.claims import Tools, judge, report, write
from vitascope.methods.base import Frozen, Method
from vitascope.store.facts import commit, machine
from vitascope.structures import ClaimsSummary

PAGES = motion_claims.PAGES | hico_claims.PAGES | wtal_claims.PAGES | wtal_world_claims.PAGES
TOO_SMALL = "\n\n**This is the small setting: it shows that the command works, and says nothing about the claims.**"


def reproduce(
    name: str,
    out: Path,
    work: Path,
    recipes: dict[str, tuple[str, Callable[[], Frozen]]],
    methods: dict[str, type[Method]],
    shots: ModuleType,
    snippets: ModuleType,
    *,
    is_small: bool = False,
    num_workers: int = 2,
    progress: bool = False,
) -> ClaimsSummary:
    """Measure, judge, and write the page `<name>.md` and `<name>.json` into the folder `out`.

    Args:
        name: One of `PAGES`.
        out: Folder of the page.
        work: Folder of worlds and trials; kept, so that a broken run goes on.
        recipes: By name, the name of the method and the function that gives the configuration.
        methods: By name.
        shots, snippets: Of the video room.
        is_small: Try the command with next to no training, which says nothing about the claims.
        num_workers: Trials at once.
        progress: Whether standard error shows how it goes on.

    Raises:
        ValueError: No such name.
        TrialFailed: A trial came to no figures.
    """
    if name not in PAGES:
        raise ValueError(f"claims ({name}) must be one of: {', '.join(PAGES)}")

    def configure(recipe: str, assignments: Sequence[str]) -> tuple[type[Method], Frozen]:
        method, make = recipes[recipe]
        return methods[method], override(make(), assignments)

    tools = Tools(configure, snippets.spread_clips, shots.index_shots, snippets.Snippets)
    page, source = PAGES[name], commit()
    budget = page.small if is_small else page.full
    how = {"num_workers": num_workers, "progress": Progress() if progress else None}
    scores, cpu_seconds = page.measure(name, tools, work, budget, **how)
    facts = {"command": f"vitascope repro {name}{' --small' if is_small else ''}", "commit": source, **machine()}
    facts["CPU minutes"] = round(cpu_seconds / 60)
    intro = page.intro.format(**budget._asdict()) + (TOO_SMALL if is_small else "")
    verdicts = [judge(claim, scores) for claim in page.claims]
    told = report(page.title, intro, scores, verdicts, facts)
    path = write(told, scores, verdicts, out, name + "-small" * is_small)
    return ClaimsSummary(name, str(path), tuple((v.claim.text, v.is_held, *v.points) for v in verdicts))
