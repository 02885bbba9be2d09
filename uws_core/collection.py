"""Makes a collection from a folder, a list or a name: the models and layers to compare, and reasons for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TypedDict, TypeGuard, Unpack

from uws_core.analysis.architectures import described, matching
from uws_core.analysis.layouts import agree, grouped, having, of_one_kind, read_alike
from uws_core.errors import CollectionError, SourceError
from uws_core.nouns.architectures import Architecture
from uws_core.nouns.hub import HubQuery
from uws_core.nouns.left_out import OTHERS
from uws_core.nouns.models import Collection, LayerKey, LeftOut, ModelRef, Value
from uws_core.sources.base import on_hub
from uws_core.sources.discovery import natural
from uws_core.sources.listing import Listing, Place, Roots, all_inside, in_folder, inside, listed, queried, reference
from uws_core.sources.model_table import ModelTable, matched
from uws_core.sources.opening import Opened, Report, equal_buffers, open_all, resolved
from uws_core.sources.spelling import spelled_alike
from uws_core.store.attached import attach
from uws_core.store.results import default_path
from uws_core.store.results_file import RESULTS_SUFFIX, read_results_file
from uws_core.store.saved_collections import SUFFIX, read_saved
from uws_core.zoo.demo import DATA, PREFIX, demo, prepare

_Base = tuple[ModelRef | None, frozenset[str], tuple[LeftOut, ...]]
Where = Place | HubQuery | Sequence[Place]


class ReadingKeywords(TypedDict, total=False):
    """How `collect` opens and compares files; see there."""

    having: str | None
    common_rows: bool
    pickled: bool
    roots: Sequence[str | Path] | None
    report: Report | None


@dataclass(frozen=True, slots=True)
class _Reading:
    """The same with their defaults."""

    having: str | None = None
    common_rows: bool = False
    pickled: bool = False
    roots: Sequence[str | Path] | None = None
    report: Report | None = None


def collect(
    where: Where,
    *,
    base: Place | None = None,
    name: str | None = None,
    dialect: str | None = None,
    architecture: str | None = None,
    **keywords: Unpack[ReadingKeywords],
) -> Collection:
    """The models at `where` and the layers they share; only headers and small samples are read.

    `where` is a folder (a safetensors file a model, or a model folder each, with attributes in `models.csv`),
    `"demo:finetuned"` and its like, a saved collection (`*.uws.toml`), a results file (`*.uws.zip`, also one on the
    Hub as `"owner/name/file.uws.zip@revision"`; the other options do not apply), a query to the Hub, or a list of
    files, folders and Hub models (`"owner/name@revision"`, taken at the commit that is now). A folder's models are
    in natural order. `base` is the model they all started from. Where models of several architectures lie together,
    `architecture` is the id or the title of one that `architectures` lists; without it, the commonest is taken.
    `having` names a layer of the collection's `partial`: only the models that have it are taken.
    With `dialect` (peft, kohya, diffusers, comfyui), only adapters whose names are in it are taken. Several
    adapters in one file are a model each. With `common_rows`, layers that differ in their number of rows alone,
    such as vocabularies, are compared in the first rows that all have, and named so (`embed.weight[:32000]`). With
    `pickled`, torch's own files in a folder are read through its weights-only loader. Further keywords are
    `having`, `common_rows`, `pickled`, `roots` and `report`: with `roots`, no file outside these folders is read, also
    not through a link. Two entries of a list with the same content stay two models; the same place twice is one.
    `report` receives the opened share and may raise to stop.

    Raises:
        CollectionError: fewer than two models, no layer that all of them have, or no models `having` that layer.
        OutsideRoot: `where` or `base` lies outside `roots`.
        SourceError: the folder or the base cannot be read.
    """
    reading = _Reading(**keywords)
    allowed = _allowed(reading.roots)
    if is_results(where):
        if reading.having is not None:
            raise CollectionError(
                f"{where}: a results file holds the layers that all its models have; open the models themselves to "
                f"compare those that have {reading.having}"
            )
        made = opened_results(results_path(where, roots=reading.roots))
        return made if name is None else replace(made, name=name)
    listing = _listing(where, allowed, pickled=reading.pickled)
    opened = open_all(listing.models, allowed, dialect, reading.report)
    readable = {label: one for label, one in opened.items() if not one.problem}
    unreadable = tuple(LeftOut(label, one.problem) for label, one in opened.items() if one.problem)
    if architecture is None:
        alike, others = of_one_kind({label: one.kind for label, one in readable.items()})
    else:
        alike, others = _of_architecture(architecture, readable, name or listing.name)
    spelled, renamed = spelled_alike({label: opened[label].layers for label in alike})
    common_rows = reading.common_rows or listing.common_rows
    agreement = agree(spelled, common_rows=common_rows)
    if reading.having is not None:
        agreement = having(spelled, agreement, reading.having, common_rows=common_rows)
    labels = tuple(alike[i] for i in agreement.kept)
    layers, mixed = read_alike(agreement.layers, {label: opened[label].low_rank for label in labels})
    layers, unclear = _same_sides(layers, {label: opened[label] for label in labels})
    buffers = equal_buffers([opened[label].ref for label in labels], layers)
    layers = tuple(layer for layer in layers if layer.name not in {one.what for one in buffers})
    layers = tuple(sorted(layers, key=lambda layer: (bool(layer.factor), natural(layer.name))))
    strangers = _name_turned(agreement.left_out, spelled, layers)
    left_out = listing.left_out + unreadable + others + renamed + strangers + mixed + unclear + buffers
    if architecture is None and (len(labels) < 2 or not layers) and (known := _architectures(readable)):
        # The commonest layout stands alone, and other models here can be compared.
        return collect(where, base=base, name=name, dialect=dialect, architecture=known[0].id, **keywords)
    _check_enough(name or listing.name, labels, layers, left_out)
    refs = tuple(opened[label].ref for label in labels)
    table, unknown = _table(listing, labels, opened)
    found_base = _base(reference(base, allowed), allowed, layers) if base else _own_base(listing, allowed, layers)
    base_ref, base_layers, base_notes = found_base
    notes = grouped({label: opened[label].left_out for label in labels})
    transposed, turned = _transposed(layers, [opened[label].transposed for label in labels])
    return Collection(
        name=name or listing.name,
        refs=refs,
        labels=labels,
        layers=layers,
        fingerprint=fingerprint(refs),
        table=table,
        base=base_ref,
        base_layers=base_layers,
        left_out=tuple(dict.fromkeys(left_out + base_notes + notes + unknown + turned + _changed(listing, refs))),
        transposed=transposed,
        partial=agreement.partial,
    )


def architectures(
    where: Where,
    *,
    dialect: str | None = None,
    pickled: bool = False,
    roots: Sequence[str | Path] | None = None,
    report: Report | None = None,
) -> tuple[Architecture, ...]:
    """The groups of two or more models at `where` that share layers by name and shape, the largest first.

    `collect` takes the id or the title of one as its `architecture`; the other parameters are those of `collect`.
    A model with less than half of a group's layers is in another group; adapters and whole models are never together.
    Empty where no two models share a layer.

    Raises:
        OutsideRoot: `where` lies outside `roots`.
        SourceError: the folder cannot be read.
    """
    allowed = _allowed(roots)
    opened = open_all(_listing(where, allowed, pickled=pickled).models, allowed, dialect, report)
    return _architectures({label: one for label, one in opened.items() if not one.problem})


def opened_results(path: Path) -> Collection:
    """The collection in a results file; from now on the store of this process finds its results.

    Raises:
        UnreadableFile: see `read_results_file`.
    """
    results = read_results_file(path)
    attach(results)
    return results.collection


def is_results(where: Where) -> TypeGuard[str | Path]:
    """Whether `where` names a results file, here or on the Hub."""
    return isinstance(where, str | Path) and (
        str(where).endswith(RESULTS_SUFFIX) or str(where).rpartition("@")[0].endswith(RESULTS_SUFFIX)
    )


def results_path(where: str | Path, *, roots: Sequence[str | Path] | None = None) -> Path:
    """The results file that `where` names, fetched from the Hub if it lies there.

    Raises:
        OutsideRoot: it lies outside the folders that may be read.
        HubError: it is not here, and cannot be fetched from the Hub.
    """
    path = Path(where).expanduser()
    if isinstance(where, Path) or path.is_absolute() or path.exists():
        return inside(path, _allowed(roots))
    from uws_core.sources.hub.whole_file import fetched

    return fetched(where)


def fingerprint(refs: Iterable[ModelRef]) -> str:
    """A digest of the models' contents in order: the same files under other names are the same collection."""
    text = "\n".join(f"{ref.commit}#{ref.part}" for ref in refs)
    return sha256(text.encode()).hexdigest()[:32]


def _allowed(roots: Sequence[str | Path] | None) -> Roots:
    return None if roots is None else (*(Path(root).resolve() for root in roots), DATA.resolve())


def _architectures(readable: Mapping[str, Opened]) -> tuple[Architecture, ...]:
    """The groups among opened models: those nearest to the commonest layout, then the same among the rest."""
    kinds = Counter(model.kind for model in readable.values())
    groups: list[tuple[str, tuple[str, ...], tuple[LayerKey, ...]]] = []
    for kind, _ in kinds.most_common():
        rest = {label: model.layers for label, model in readable.items() if model.kind == kind}
        while len(rest) > 1:
            agreement = agree(spelled_alike(rest)[0])
            labels = tuple(label for i, label in enumerate(rest) if i in set(agreement.kept))
            if len(labels) > 1 and agreement.layers:
                groups.append((kind, labels, agreement.layers))
            # Models without any matrix are near to nothing, and would stay for ever.
            rest = {label: layers for label, layers in rest.items() if label not in labels} if labels else {}
    return described(groups)


def _of_architecture(
    text: str, readable: Mapping[str, Opened], name: str
) -> tuple[tuple[str, ...], tuple[LeftOut, ...]]:
    """The models of the architecture that `text` names, and a note for each architecture that was not chosen."""
    known = _architectures(readable)
    chosen = matching(text, known)
    if chosen is None:
        there = "; ".join(f"{item.id} ({item})" for item in known) or "none, since no two models share a layer"
        raise CollectionError(f"{name}: no architecture is called {text!r}. There are: {there}")
    others = {label: f"{OTHERS[0]}: {item.title}" for item in known for label in item.models if item != chosen}
    notes = (
        LeftOut(label, others.get(label, f"{OTHERS[0]}, of which no other model is here"))
        for label in readable
        if label not in chosen.models
    )
    return chosen.models, tuple(notes)


def _listing(where: Where, roots: Roots, *, pickled: bool) -> Listing:
    if isinstance(where, str) and where.startswith(PREFIX):
        known = demo(where)
        if known.generated:
            # Beside the results, not among them: the store owns its folder.
            results = default_path()
            known = prepare(known, results.with_name(f"{results.name}-demos"))
        found = in_folder(known.folder)
        return replace(found, name=where, base=None if known.base is None else ModelRef(str(known.base), ""))
    if isinstance(where, HubQuery):
        return queried(where)
    if isinstance(where, ModelRef):
        return listed([where], roots)
    if isinstance(where, str | Path):
        path = Path(where).expanduser()
        if path.name.endswith(SUFFIX):
            return _reopened(inside(path, roots), pickled=pickled)
        return in_folder(inside(path, roots), roots, pickled=pickled) if path.is_dir() else listed([where], roots)
    return listed(where, roots)


def _reopened(path: Path, *, pickled: bool) -> Listing:
    """A saved collection; the places of its models are checked against `roots` when they are opened."""
    found = read_saved(path)
    # A file that came from elsewhere must not decide that a pickle is opened.
    refused = [label for label, ref in found.models.items() if ref.pickled and not pickled]
    notes = tuple(LeftOut(label, "a pickled file, which is read only on request") for label in refused)
    models = {label: ref for label, ref in found.models.items() if label not in refused}
    rows = {label: tuple(column[i] for column in found.table.values()) for i, label in enumerate(found.models)}
    table = ModelTable(tuple(found.table), rows)
    return Listing(found.name, models, table, found.base, found.left_out + notes, found.fingerprint, found.common_rows)


def _changed(listing: Listing, refs: Sequence[ModelRef]) -> tuple[LeftOut, ...]:
    """A note when a saved collection is not what it was."""
    if listing.saved in (None, "", fingerprint(refs)):
        return ()
    return (
        LeftOut(listing.name, f"not as it was saved: {len(refs)} of its {len(listing.models)} models could be opened"),
    )


def _check_enough(name: str, labels: Sequence[str], layers: Sequence[LayerKey], left_out: Sequence[LeftOut]) -> None:
    why = "".join(f"\n- {one.what}: {one.reason}" for one in left_out[:5])
    more = f"\n- and {len(left_out) - 5} more" if len(left_out) > 5 else ""
    if not labels:
        raise CollectionError(
            f"{name}: no model that can be read. Expected a folder of safetensors files, a model each, or of model "
            f"folders.{why}{more}"
        )
    if len(labels) == 1:
        raise CollectionError(
            f"{name}: one model ({labels[0]}) and nothing to compare it with. Choose the folder above it, or name two "
            f"or more models of one architecture.{why}{more}"
        )
    if not layers:
        raise CollectionError(
            f"{name}: {len(labels)} models, but no matrix that all of them have in the same shape.{why}{more}"
        )


def _table(
    listing: Listing, labels: Sequence[str], opened: Mapping[str, Opened]
) -> tuple[dict[str, tuple[Value, ...]], tuple[LeftOut, ...]]:
    """Attributes for the models by label, by file name, or by folder name."""

    def names(label: str) -> tuple[str, ...]:
        path = Path(opened[label].ref.repo)
        return (label, f"{label}.safetensors", path.name, path.stem)

    others = [name for label in opened if label not in labels for name in names(label)]
    columns, left_out = matched(listing.table, [names(label) for label in labels], known=others)
    if listing.saved is not None:
        return columns, left_out
    if len(labels) < len(opened):
        # Columns of the other models only, such as the step of a training run, say nothing here.
        columns = {name: column for name, column in columns.items() if set(column) != {None}}
    names_on_hub = dict.fromkeys(name for label in labels for name in opened[label].attributes)
    from_hub = {name: tuple(opened[label].attributes.get(name) for label in labels) for name in names_on_hub}
    # A column without a value is dropped.
    return {name: column for name, column in from_hub.items() if set(column) != {None}} | columns, left_out


def _transposed(layers: Sequence[LayerKey], models: Sequence[Set[str]]) -> tuple[frozenset[str], tuple[LeftOut, ...]]:
    """The layers that are stored as inputs x outputs in every model, and the note for the page."""
    found = [layer.name for layer in layers if all(layer.name in own for own in models)]
    reason = f"stored as inputs x outputs, so their sides in and out are each other's: {', '.join(found[:3])}"
    note = LeftOut(f"the sides of {len(found)} layers", reason + (" ..." if len(found) > 3 else ""))
    return frozenset(found), (note,) if found else ()


def _same_sides(
    layers: Sequence[LayerKey], models: Mapping[str, Opened]
) -> tuple[tuple[LayerKey, ...], tuple[LeftOut, ...]]:
    """The layers without square updates that some adapters store turned: models of one base cannot differ in that."""
    kept, unclear = [], []
    for layer in layers:
        turned = [label for label, model in models.items() if layer.name in model.transposed]
        straight = [label for label in models if label not in turned]
        if not turned or not straight or not all(layer.name in model.low_rank for model in models.values()):
            kept.append(layer)
            continue
        some, others = f"{turned[0]} ({len(turned)} models)", f"{straight[0]} ({len(straight)})"
        reason = f"read as inputs x outputs in {some} and not in {others}: their fan_in_fan_out contradict each other"
        unclear.append(LeftOut(layer.name, reason))
    return tuple(kept), tuple(unclear)


def _name_turned(
    left_out: Sequence[LeftOut], models: Mapping[str, Sequence[LayerKey]], layers: Sequence[LayerKey]
) -> tuple[LeftOut, ...]:
    """The reasons, with another one for models that differ only in which side of their layers comes first."""
    usual = {layer.name: layer.shape for layer in layers if not layer.factor}
    notes = []
    for item in left_out:
        shapes = {layer.name: layer.shape for layer in models.get(item.what, ())}
        turned = [name for name, (m, p) in usual.items() if m != p and shapes.get(name) == (p, m)]
        if turned:
            reason = f"{len(turned)} of its layers have inputs and outputs the other way round, first {turned[0]}"
            item = LeftOut(
                item.what, f"{reason}: its fan_in_fan_out, of which there is one a file, contradicts the others'"
            )
        notes.append(item)
    return tuple(notes)


def _own_base(listing: Listing, roots: Roots, layers: Sequence[LayerKey]) -> _Base:
    """The base that a place names itself; without the one it was saved with, a collection is still one."""
    try:
        return _base(listing.base, roots, layers)
    except (SourceError, CollectionError) as error:
        if listing.saved is None:
            raise
        return None, frozenset(), (LeftOut("the base model", str(error)),)


def _base(ref: ModelRef | None, roots: Roots, layers: Sequence[LayerKey]) -> _Base:
    """The base with its commit, the layers it has too, and a note on those it lacks."""
    if ref is None:
        return None, frozenset(), ()
    if roots is not None and not on_hub(ref):
        all_inside(Path(ref.repo), roots)
    ref, source = resolved(ref)
    with source:
        layers = [layer for layer in layers if not layer.factor]
        shared = frozenset(layer.name for layer in layers if source.find(layer.name) == layer)
        own = source.layers()
    if not shared:
        raise CollectionError(f"{ref.repo} is no base of these models: none of its {len(own)} layers is theirs")
    lacking = [layer.name for layer in layers if layer.name not in shared]
    reason = f"not in the base model with the same shape, so not compared with it: {', '.join(lacking[:5])}"
    note = LeftOut(f"base: {len(lacking)} of {len(layers)} layers", reason + (" ..." if len(lacking) > 5 else ""))
    return ref, shared, (note,) if lacking else ()
