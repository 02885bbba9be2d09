"""Scores of merges against the scale, for the built-in collections whose networks can be tried."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import polars as pl

from uws_core.analysis.merge_scores import BASE, OWN, kept
from uws_core.errors import StoreError
from uws_core.jobs import Report
from uws_core.nouns.merge_preview import MergeScore
from uws_core.nouns.merging import MergeMethod
from uws_core.nouns.models import Collection
from uws_core.store.results import default_store
from uws_core.ui import compute, tasks
from uws_core.ui.merge.controls import MergeQuery
from uws_core.ui.tasks import Task
from uws_core.zoo.demo import DEMOS, PREFIX

SCALES = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5)
# One call of the tiny networks' evaluator.
_SECONDS_PER_POINT = 0.025


def possible(query: MergeQuery, collection: Collection) -> bool:
    """Whether merges of these networks can be tried here: a built-in collection with a base and scores."""
    demo = DEMOS.get(query.collection.removeprefix(PREFIX)) if query.collection.startswith(PREFIX) else None
    return demo is not None and demo.scored and collection.base is not None


def task(query: MergeQuery, collection: Collection, methods: Sequence[str]) -> Task:
    """Merging by every method, and trying each at every scale at every member's task."""
    names = _different(query, methods)
    points = len(query.members) * (2 + len(names) * len(SCALES))
    return Task(
        key=tasks.key_of("merge scores", *_asked(query, names)),
        title=f"Trying {len(names)} merges of {len(query.members)} networks at {len(SCALES)} scales",
        seconds=points * _SECONDS_PER_POINT,
        bytes=0,
        work=lambda report: _score(query, collection, names, report),
    )


def points(query: MergeQuery, methods: Sequence[str]) -> tuple[MergeScore, ...]:
    """The scores there are, of some methods only while the rest is under way or was stopped."""
    try:
        raw = default_store().get(_key(query, _different(query, methods)))
    except StoreError:
        return ()
    return () if raw is None else tuple(MergeScore(**{**one, **_numbers(one)}) for one in json.loads(raw))


def sweep(tried: Sequence[MergeScore], names: dict[str, str]) -> pl.DataFrame:
    """One row a method and scale: the mean kept score over members on the half that chooses; the base at scale 0."""
    own = {one.model: one.choose for one in tried if one.method == OWN}
    base = [kept(one.choose, own[one.model]) for one in tried if one.method == BASE]
    table: dict[tuple[str, float], list[float]] = {}
    for one in tried:
        if one.method not in (OWN, BASE):
            table.setdefault((one.method, one.scale), []).append(kept(one.choose, own[one.model]))
    start = {method: float(np.mean(base)) for method, _ in table} if base else {}
    rows = [(names.get(method, method), 0.0, value) for method, value in start.items()]
    rows += [(names.get(method, method), scale, float(np.mean(values))) for (method, scale), values in table.items()]
    return pl.DataFrame(rows, schema={"method": pl.String, "scale": pl.Float64, "score": pl.Float64}, orient="row")


def _different(query: MergeQuery, methods: Sequence[str]) -> tuple[str, ...]:
    """The methods without those that are the mean under another name with these options."""
    same = {MergeMethod.LINEAR} if not query.weights else set()
    same |= {MergeMethod.SUBSPACE} if not query.rank and not query.weights else set()
    return tuple(name for name in methods if name not in same)


def _score(query: MergeQuery, collection: Collection, names: Sequence[str], report: Report) -> None:
    """Tries every merge; what is done goes to the store as it comes."""
    # torch is loaded only where weights are read.
    from uws_core.use.merge_scores import ScoreQuestion, merge_scores
    from uws_core.zoo.halves import halves

    found: list[dict[str, object]] = []

    def noted(fraction: float, message: str) -> None:
        default_store().put(_key(query, names), json.dumps(found).encode())
        report(fraction, message)

    question = ScoreQuestion(
        recipes=[query.recipe(name) for name in names],
        scales=SCALES,
        evaluate=halves,
        members=query.members,
        layers=query.layers,
        budget=compute.options().budget,
    )
    # A method's points come before its report.
    for point in merge_scores(collection, question, report=noted):
        found.append(asdict(point))
    noted(1.0, "")


def _numbers(one: dict[str, object]) -> dict[str, float]:
    """NaN is no number of JSON; Python reads and writes it all the same."""
    return {name: float(one[name]) for name in ("scale", "choose", "judge")}  # type: ignore[arg-type]


def _asked(query: MergeQuery, names: Sequence[str]) -> tuple[object, ...]:
    recipes = [sorted(query.recipe(name).as_dict().items(), key=str) for name in names]
    return query.fingerprint, query.layers, query.members, recipes


def _key(query: MergeQuery, names: Sequence[str]) -> str:
    return f"{tasks.key_of('merge points', *_asked(query, names))}/points"
