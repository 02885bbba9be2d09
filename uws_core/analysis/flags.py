"""The fingerprint check: identical models from their commits alone, re-initialised ones from Grams that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from uws_core.analysis.lineage import chance_cosine
from uws_core.analysis.outliers import duplicates, outliers
from uws_core.nouns.gram import Gram
from uws_core.nouns.lineage import COLLECTION, Duplicate, Flag, LayerFlags, Outlier
from uws_core.nouns.models import Collection

BASE = "the base"
# What a flag says of each kind of odd model; other kinds are for the lineage page.
WHAT: Mapping[str, str] = {
    "never trained": "looks re-initialised",
    "as if never trained": "looks as if never trained",
    "equal cosines": "looks silently initialised again",
    "no relative": "is unlike all others",
    "constant": "has entries that are all equal",
    "non-finite": "holds NaN or infinity",
}


def same_content(collection: Collection) -> tuple[Flag, ...]:
    """Models with one commit, the base among them: on a disk a digest of header, size and a sample of every tensor.

    Models of the Hub under other commits are copies where the sha256 of their weights files are the same. Files of one
    repository on the Hub share its commit and are no copies. Price: nothing is opened.
    """
    groups: dict[str, dict[str, str]] = {}
    for label, ref in zip(collection.labels, collection.refs, strict=True):
        groups.setdefault(ref.commit, {}).setdefault(ref.repo, label)
    if collection.base is not None and collection.base.commit in groups:
        groups[collection.base.commit].setdefault(collection.base.repo, BASE)
    files: dict[str, dict[str, str]] = {}
    digests = collection.table.get("weights_sha256", (None,) * len(collection))
    for label, ref, digest in zip(collection.labels, collection.refs, digests, strict=True):
        files.setdefault(str(digest or ""), {}).setdefault(f"{ref.repo}@{ref.commit}", label)
    known = [set(places.values()) for commit, places in groups.items() if commit]
    return tuple(
        Flag(tuple(places.values()), "have the same content", f"one digest of all their files, {digest[:12]}")
        for digest, places in (*groups.items(), *files.items())
        if len(places) > 1 and digest and (digest in groups or set(places.values()) not in known)
    )


def look(gram: Gram) -> LayerFlags:
    """What one layer's Gram shows of its models, from entry statistics and raw inner products. Price: `n^2`."""
    rows = gram.chosen()
    labels = tuple(gram.labels[row] for row in rows)
    if rows.size < 2:
        return LayerFlags(gram.layer.short, outliers(gram, chance=1.0), (), frozen=False)
    odd = outliers(gram, chance=chance_cosine(rows.size, gram.effective_d))
    copies = duplicates(labels, gram.about("zero"), gram.cosines("zero"), blur=gram.blur[rows])
    pairs = rows.size * (rows.size - 1) // 2
    # What is about all models has no one's label.
    shown = tuple(
        one if one.model in gram.labels else replace(one, model=COLLECTION) for one in odd if one.kind in WHAT
    )
    return LayerFlags(gram.layer.short, shown, copies, frozen=rows.size > 2 and 2 * len(copies) > pairs)


def flags(collection: Collection, looks: Sequence[LayerFlags]) -> tuple[Flag, ...]:
    """Everything to look at: the same content first, then near copies, then odd models with the layers that show it."""
    same = same_content(collection)
    known = [set(flag.models) for flag in same]
    # Pairs that are nearly the same in every layer that can tell, unless their content is known to be the same.
    telling = [one for one in looks if not one.frozen]
    by_layer = [{(copy.left, copy.right): copy for copy in one.copies} for one in telling]
    first = by_layer[0] if by_layer else {}
    pairs = [pair for pair in first if all(pair in layer for layer in by_layer)]
    near = [
        Flag(pair, "are nearly the same", _distance([layer[pair] for layer in by_layer]))
        for pair in pairs
        if not any(set(pair) <= group for group in known)
    ]
    return (*same, *near, *_odd(looks))


def _distance(copies: Sequence[Duplicate]) -> str:
    where = "in the one layer read" if len(copies) == 1 else f"in all {len(copies)} layers read that can tell"
    return f"{where} they differ by at most {max(copy.distance for copy in copies):.2g} of a norm"


def _odd(looks: Sequence[LayerFlags]) -> list[Flag]:
    """One flag a model and kind, with the number of layers that show it and the first one's reason.

    Of all models together only what most layers show: training leaves some layers near their start.
    """
    found: dict[tuple[str, str], list[tuple[str, Outlier]]] = {}
    for one in looks:
        for outlier in one.odd:
            found.setdefault((outlier.model, outlier.kind), []).append((one.layer, outlier))
    told = []
    for (model, kind), seen in found.items():
        if model == COLLECTION and 2 * len(seen) < len(looks):
            continue
        layer, first = seen[0]
        where = f"in {layer}" if len(seen) == 1 else f"in {len(seen)} of {len(looks)} layers read, first {layer}"
        told.append(Flag((model,), WHAT[kind], f"{where}: {first.reason}"))
    return told
