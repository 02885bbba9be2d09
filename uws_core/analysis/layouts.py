"""What models have in common, told from the names and shapes of their layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from uws_core.errors import CollectionError
from uws_core.nouns.models import LayerKey, LeftOut, PartialLayer

# A model with less than this share of the usual layers is of another architecture.
SAME_ARCHITECTURE = 0.5

Signature = frozenset[LayerKey]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The models (by position) that are of one architecture, the layers all of them have, and what stays out.

    `partial` are the layers that at least two of these models have, and not all.
    """

    kept: tuple[int, ...]
    layers: tuple[LayerKey, ...]
    left_out: tuple[LeftOut, ...]
    partial: tuple[PartialLayer, ...] = ()


def agree(models: Mapping[str, Sequence[LayerKey]], *, common_rows: bool = False) -> Agreement:
    """The layers that models (label to layers) share by name and shape, once other architectures are set aside.

    The architecture is that of the layout to which most models come near: a model comes near a layout when it has at
    least half of its layers. Factor views (`name:A`) have no vote, since ranks differ. With `common_rows`, a layer
    that differs in its number of rows alone is kept in the first rows that all have, as `name[:rows]`.
    Price: (distinct layouts)^2.
    """
    labels = list(models)
    signatures = [_signature(layers) for layers in models.values()]
    usual = _usual(signatures)
    near = [_near(signature, usual) for signature in signatures]
    strangers = tuple(
        LeftOut(label, _strange(signature, usual, sum(near)))
        for label, signature, alike in zip(labels, signatures, near, strict=True)
        if not alike
    )
    kept = {label: models[label] for label, alike in zip(labels, near, strict=True) if alike}
    layers, missing, partial = _common(kept, common_rows=common_rows)
    return Agreement(tuple(i for i, alike in enumerate(near) if alike), layers, strangers + missing, partial)


def having(
    models: Mapping[str, Sequence[LayerKey]], agreement: Agreement, layer: str, *, common_rows: bool = False
) -> Agreement:
    """The agreement of those models alone that have a layer which only part of them have; `models` as for `agree`.

    The architecture is not voted on anew, so exactly the layer's holders are kept. A layer that all models have
    changes nothing.

    Raises:
        CollectionError: no two models have a layer of this name.
    """
    if any(key.name == layer for key in agreement.layers):
        return agreement
    chosen = next((item for item in agreement.partial if item.key.name == layer), None)
    if chosen is None:
        there = "; ".join(map(str, agreement.partial[:8])) or "none: every layer is in all models or in one alone"
        raise CollectionError(f"No layer {layer!r} is in part of the models. Such layers are {there}")
    labels, (m, p) = list(models), chosen.key.shape
    holders, near = set(chosen.models), {labels[index] for index in agreement.kept}
    strangers = tuple(item for item in agreement.left_out if item.what in models and item.what not in near)
    lacking = tuple(
        LeftOut(label, f"it has no {layer} of {m} x {p}, and the models that have it were chosen")
        for label in labels
        if label in near - holders
    )
    layers, missing, _ = _common(
        {label: models[label] for label in labels if label in holders}, common_rows=common_rows
    )
    kept = tuple(index for index, label in enumerate(labels) if label in holders)
    return Agreement(kept, layers, strangers + lacking + missing)


def of_one_kind(kinds: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[LeftOut, ...]]:
    """The models (label to kind) of the commonest kind, of the first among equals, and why the others stay out."""
    counts = Counter(kinds.values())
    kept = max(counts, key=counts.__getitem__, default="")
    others = (
        LeftOut(label, f"of the kind {kind!r}, while {counts[kept]} of {len(kinds)} models are of the kind {kept!r}")
        for label, kind in kinds.items()
        if kind != kept
    )
    return tuple(label for label, kind in kinds.items() if kind == kept), tuple(others)


def read_alike(
    layers: Sequence[LayerKey], thin: Mapping[str, Set[str]]
) -> tuple[tuple[LayerKey, ...], tuple[LeftOut, ...]]:
    """The layers that all models store as factors (`thin`, label to names), or none does; the rest with the reason."""
    kept, mixed = [], []
    for layer in layers:
        owners = [label for label, names in thin.items() if layer.whole in names]
        if 0 < len(owners) < len(thin):
            where = f"low-rank in {len(owners)} of {len(thin)} models and dense in the others"
            mixed.append(LeftOut(layer.name, f"{where}, first low-rank in {owners[0]}"))
        else:
            kept.append(layer)
    return tuple(kept), tuple(mixed)


def grouped(notes: Mapping[str, Sequence[LeftOut]]) -> tuple[LeftOut, ...]:
    """One entry for what is left out of several models for one reason, saying of how many."""
    counts = Counter(note for own in notes.values() for note in dict.fromkeys(own))
    first = {note: label for label, own in reversed(list(notes.items())) for note in own}
    return tuple(
        note if count == len(notes) else LeftOut(note.what, f"{note.reason} (in {_in(count, len(notes), first[note])})")
        for note, count in counts.items()
    )


def _signature(layers: Sequence[LayerKey]) -> Signature:
    whole = frozenset(layer for layer in layers if not layer.factor)
    return whole or frozenset(layers)


def _usual(signatures: Sequence[Signature]) -> Signature:
    """The layout that most models come near; among equals the commonest, then the first."""
    counts = Counter(signatures)

    def standing(candidate: Signature) -> tuple[int, int]:
        return sum(count for other, count in counts.items() if _near(other, candidate)), counts[candidate]

    return max(counts, key=standing, default=frozenset())


def _near(signature: Signature, usual: Signature) -> bool:
    return len(signature & usual) >= SAME_ARCHITECTURE * len(usual) and bool(signature)


def _strange(signature: Signature, usual: Signature, others: int) -> str:
    if not signature:
        return "it has no matrix that could be compared"
    names = len({layer.name for layer in signature} & {layer.name for layer in usual})
    same = len(signature & usual)
    shapes = f"; {names - same} more bear the same name in another shape" if names > same else ""
    return f"another architecture: it shares {same} of the {len(usual)} layers of the {others} other models{shapes}"


def _common(
    models: Mapping[str, Sequence[LayerKey]], *, common_rows: bool
) -> tuple[tuple[LayerKey, ...], tuple[LeftOut, ...], tuple[PartialLayer, ...]]:
    """The layers that every model has, in the order of the first, why any other layer stays out, and who has those."""
    shapes: dict[str, dict[tuple[int, int], list[str]]] = {}
    for label, layers in models.items():
        for layer in layers:
            shapes.setdefault(layer.name, {}).setdefault(layer.shape, []).append(label)
    common, missing, partial = [], [], []
    for name, by_shape in shapes.items():
        shape = max(by_shape, key=lambda one: len(by_shape[one]))
        # Factor views come with their layer.
        if 2 <= len(by_shape[shape]) < len(models) and ":" not in name:
            partial.append(PartialLayer(LayerKey(name, shape), tuple(by_shape[shape]), len(models)))
        if len(by_shape[shape]) == len(models):
            common.append(LayerKey(name, shape))
        elif common_rows and ":" not in name and (part := _first_rows(name, by_shape, len(models))):
            common.append(part)
            reason = f"only its first {part.shape[0]} rows are compared, which all models have"
            missing.append(LeftOut(name, f"{reason}: {_lacking(by_shape, shape, list(models))}"))
        else:
            missing.append(LeftOut(name, _lacking(by_shape, shape, list(models))))
    return tuple(common), tuple(missing), tuple(partial)


def _first_rows(name: str, by_shape: Mapping[tuple[int, int], list[str]], n: int) -> LayerKey | None:
    """The rows that every model's layer has, where nothing but their number differs; factor views are no such thing."""
    rows, widths = min(m for m, _ in by_shape), {p for _, p in by_shape}
    everywhere = sum(map(len, by_shape.values())) == n
    return LayerKey(f"{name}[:{rows}]", (rows, widths.pop())) if everywhere and len(widths) == 1 else None


def _lacking(by_shape: Mapping[tuple[int, int], list[str]], shape: tuple[int, int], labels: list[str]) -> str:
    have = by_shape[shape]
    # The holders are named where they are the exception.
    named = f" ({_some(have)})" if 2 * len(have) < len(labels) else ""
    parts = [f"{shape[0]} x {shape[1]} in {len(have)} of {len(labels)} models{named}"]
    parts += [f"{m} x {p} in {_some(own)}" for (m, p), own in by_shape.items() if (m, p) != shape]
    holders = {label for own in by_shape.values() for label in own}
    absent = [label for label in labels if label not in holders]
    if absent and len(absent) <= len(holders):
        parts.append(f"missing in {_some(absent)}")
    return "; ".join(parts)


def _some(labels: list[str]) -> str:
    return ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")


def _in(count: int, total: int, first: str) -> str:
    return f"{count} of {total} models, first {first}" if count > 1 else f"1 of {total} models: {first}"
