"""Opening many models at once: the layout of each, or why there is none; weights are not read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from uws_core.errors import SourceError
from uws_core.nouns.models import LayerKey, LeftOut, ModelRef, Value
from uws_core.sources import adapters_of, on_hub, resolved
from uws_core.sources.adapter import SeveralAdapters
from uws_core.sources.asked import Roots, all_inside
from uws_core.sources.base import Source

# Headers are small reads that wait more than they work.
_OPENERS: Final = 8
# Of one file: each is a model, and a table of models is looked through by people.
MOST_ADAPTERS: Final = 1000

Report = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """One model's layout, or why there is none."""

    ref: ModelRef
    layers: tuple[LayerKey, ...] = ()
    thin: frozenset[str] = frozenset()
    transposed: frozenset[str] = frozenset()
    kind: str = ""
    left_out: tuple[LeftOut, ...] = ()
    attributes: Mapping[str, Value] = field(default_factory=dict)
    problem: str = ""


def open_all(
    models: Mapping[str, ModelRef], roots: Roots, dialect: str | None, report: Report | None
) -> dict[str, Opened]:
    """Every model by label; a file with several adapters gives one model each, labelled with its name."""
    opened: dict[str, Opened] = {}
    with ThreadPoolExecutor(_OPENERS, thread_name_prefix="uws-open") as pool:
        running = [pool.submit(_open, ref, roots, dialect) for ref in models.values()]
        try:
            for done, (label, task) in enumerate(zip(models, running, strict=True), start=1):
                opened |= {label + own: one for own, one in task.result().items()}
                if report:
                    report(done / len(models), f"{done} of {len(models)} models opened")
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return opened


def _open(ref: ModelRef, roots: Roots, dialect: str | None) -> dict[str, Opened]:
    try:
        if roots is not None and not on_hub(ref):
            all_inside(Path(ref.repo), roots)
        return {"": _seen(ref, *resolved(ref), dialect)}
    except SeveralAdapters as several:
        return _open_each(ref, several.names, dialect)
    except SourceError as error:
        return {"": Opened(ref, problem=str(error))}


def _open_each(ref: ModelRef, names: Sequence[str], dialect: str | None) -> dict[str, Opened]:
    """The adapters of one file by what their label adds, and why not all of them where they are very many."""
    taken, more = names[:MOST_ADAPTERS], names[MOST_ADAPTERS:]
    try:
        found = adapters_of(ref, taken)
        opened = {f":{name}": _seen(ref, *one, dialect) for name, one in zip(taken, found, strict=True)}
    except SourceError as error:
        return {"": Opened(ref, problem=str(error))}
    if more:
        others = ", ".join(more[:3]) + (f" and {len(more) - 3} more" if len(more) > 3 else "")
        reason = f"{len(names)} adapters are in this one file and the first {len(taken)} are taken; the other "
        opened[""] = Opened(ref, problem=f"{reason}{len(more)} are {others}; name one as part ':name'")
    return opened


def _seen(asked: ModelRef, found: ModelRef, source: Source | SourceError, dialect: str | None) -> Opened:
    """The layout of an opened model, or what is wrong with it."""
    if isinstance(source, SourceError):
        return Opened(found, problem=str(source))
    with source:
        if dialect is not None and dialect not in source.dialects:
            spoken = ", ".join(source.dialects) or "no adapter"
            return Opened(found, problem=f"its dialect is {spoken}, {dialect} was asked for")
        told, notes = _told(asked, found)
        left_out = (*notes, *source.left_out)
        return Opened(found, source.layers(), source.thin, source.transposed, source.format, left_out, told)


def _told(asked: ModelRef, found: ModelRef) -> tuple[Mapping[str, Value], tuple[LeftOut, ...]]:
    """What the Hub says of a model that was just opened, and a note when it has another name now. Price: nothing."""
    if not on_hub(found):
        return {}, ()
    from uws_core.sources import hub

    note = LeftOut(asked.repo, f"it was renamed; it is {found.repo} now, and is read from there")
    return hub.look_up(found).attributes, (note,) if asked.repo != found.repo else ()
