"""A model that is not in the collection: its folder or an uploaded file, projected on the shared subspace."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import streamlit as st

from uws_core import run
from uws_core.analysis.heldout import pooled, project
from uws_core.answers.reconstruction import answer_unseen_model
from uws_core.errors import CollectionError, LayerError, NotEnoughModels, StoreError, UwsError
from uws_core.export import Provenance
from uws_core.frames import reconstruction
from uws_core.frames.reconstruction import HELP
from uws_core.jobs import Report
from uws_core.nouns.gram import Axis
from uws_core.nouns.heldout import HeldOut
from uws_core.nouns.models import Collection, LeftOut, ModelRef
from uws_core.nouns.query import Query, RebuildQuery
from uws_core.passes.options import ComputeOptions
from uws_core.store.codec import MATH_VERSION, sequence_from_bytes, to_bytes
from uws_core.store.results import default_store
from uws_core.ui import compute, folders, grams, job_panel, page, tasks
from uws_core.ui.catalogue import catalogue
from uws_core.ui.reconstruction import view
from uws_core.ui.reconstruction.data import kept_on

# Uploaded models are kept for as long as the machine keeps temporary files, the latest few.
MOST_UPLOADS = 8


@dataclass(frozen=True, slots=True)
class Projected:
    """One model's errors by layer and together, and the layers that could not be compared."""

    layers: dict[str, HeldOut]
    together: HeldOut
    left_out: tuple[LeftOut, ...]


def from_folder(text: str) -> ModelRef:
    """The model in a folder a person typed.

    Raises:
        OutsideRoot: it lies outside the roots.
        SourceError: there is no model.
    """
    from uws_core.sources.opening import resolved

    return resolved(ModelRef(str(folders.allowed(text)), ""))[0]


def from_upload(content: bytes) -> ModelRef:
    """The model in an uploaded safetensors file, kept in a private folder of temporary files.

    Raises:
        SourceError: the bytes are no safetensors file.
    """
    from uws_core.sources.opening import resolved

    place = Path(tempfile.gettempdir()) / f"uws-uploads-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    if place.is_symlink() or place.stat().st_uid != os.getuid():
        raise CollectionError(f"{place} belongs to somebody else; uploads cannot be kept there")
    path = place / f"{sha256(content).hexdigest()[:32]}.safetensors"
    if not path.exists():
        path.write_bytes(content)
    for old in sorted(place.iterdir(), key=lambda one: one.stat().st_mtime)[:-MOST_UPLOADS]:
        old.unlink(missing_ok=True)
    try:
        return resolved(ModelRef(str(path), ""))[0]
    except UwsError:
        path.unlink(missing_ok=True)
        raise


def task(query: RebuildQuery, collection: Collection, model: str) -> tasks.Task:
    """Reading the chosen models beside the new one, in the query's layers; what is done is kept layer by layer."""
    n, keys = len(query.members), [collection.by_name[name] for name in query.layers]
    # On the models axis all are read for their inner products, on a side for their Gram and mean; own SVD: the mean.
    times = (1.0 if query.axis == Axis.MODELS else 3.0) + (1.0 if query.own and query.reference == "mean" else 0.0)
    sides = [key.shape[1] if query.axis == Axis.IN else key.shape[0] for key in keys]
    steps = sum(10.0 * min(key.shape) ** 3 for key in keys) if query.own else 0.0
    if query.axis != Axis.MODELS:
        steps += sum(2.0 * n * key.entries * side + 20.0 * side**3 for key, side in zip(keys, sides, strict=True))
    return tasks.Task(
        key=tasks.key_of("newcomer", _asked(query), model),
        title=f"Comparing one model with {n} in {len(keys)} layers" if len(keys) > 1 else f"Comparing a model with {n}",
        seconds=tasks.read_seconds(collection, query.layers, times=times) + steps / tasks.STEPS_PER_SECOND,
        bytes=int(times * 4 * n * sum(key.entries for key in keys)),
        work=lambda report: _prepare(query, collection, model, report),
    )


@st.cache_data(max_entries=64, max_size="64mb", show_spinner="Comparing the model with the collection")
def projected(query: RebuildQuery, model: str, label: str) -> Projected:
    """A model's errors in the query's layers; `model` is its reference with its content.

    Raises:
        LayerError: no layer can be compared.
        SourceError: the model or the collection cannot be read.
    """
    collection = _collection(query)
    shared, left_out = _comparable(query, collection, model)
    found: dict[str, HeldOut] = {}
    problems = [one for one in left_out if one.what in query.layers or one.what not in collection.by_name]
    for name in shared:
        try:
            found[name] = replace(_one(name, query, collection, model), model=label)
        except (LayerError, NotEnoughModels) as error:
            problems.append(LeftOut(name, str(error)))
    if not found:
        raise LayerError(
            f"{label} has none of the {len(query.layers)} chosen layers in the same shape; "
            + "; ".join(f"{one.what}: {one.reason}" for one in problems[:3])
        )
    (together,) = pooled([(one,) for one in found.values()])
    return Projected(found, together, tuple(problems))


def _prepare(query: RebuildQuery, collection: Collection, model: str, report: Report) -> None:
    """Every layer into the store; what cannot be compared is said when the answer is asked for."""
    shared, _ = _comparable(query, collection, model)
    for index, name in enumerate(shared):
        with suppress(LayerError, NotEnoughModels):
            _one(name, query, collection, model)
        report((index + 1) / len(shared), collection.by_name[name].short)


def _comparable(query: RebuildQuery, collection: Collection, model: str) -> tuple[tuple[str, ...], tuple[LeftOut, ...]]:
    """The query's layers that the model has too, and what it has not or has beside."""
    # torch is loaded only where weights are read.
    from uws_core.passes.projection import comparable

    shared, left_out = comparable(collection, ModelRef.parse(model))
    return tuple(layer.name for layer in shared if layer.name in query.layers), left_out


def _one(name: str, query: RebuildQuery, collection: Collection, model: str) -> HeldOut:
    """The errors in one layer, from the store or by a pass."""
    kept = kept_on(query, collection)
    key = f"newcomer/{MATH_VERSION}/{tasks.key_of('layer', replace(_asked(query), layers=(name,)), kept, model)}"
    raw = default_store().get(key)
    if raw is not None:
        with suppress(StoreError, ValueError):
            (found,) = sequence_from_bytes(HeldOut, raw)
            return found
    found = _computed(name, query, collection, ModelRef.parse(model), kept)
    default_store().put(key, to_bytes([found]))
    return found


def _computed(name: str, query: RebuildQuery, collection: Collection, ref: ModelRef, kept: tuple[int, ...]) -> HeldOut:
    from uws_core.passes.per_model_svd import unseen_model_svd
    from uws_core.passes.projection import unseen_model_row
    from uws_core.passes.side_heldout import SideQuestion, side_project

    label, members, reference = str(ref), query.members, query.reference
    room, own = compute.options().budget, None
    if query.own:
        own = unseen_model_svd(
            collection,
            name,
            ref,
            label=label,
            reference=reference,
            members=members,
            options=ComputeOptions(budget=room),
        )
    if query.axis == Axis.MODELS:
        (gram,) = grams.of(Query(query.collection, query.fingerprint, members, (name,)))
        row = unseen_model_row(collection, name, ref, gram=gram, label=label, options=ComputeOptions(budget=room))
        return project(gram, row, kept=kept, members=members, about=query.about, reference=reference, own=own)
    total = run.cached_side_gram(collection, name, axis=query.axis, members=members)
    question = SideQuestion(Axis(query.axis), kept, reference=reference, own=own, total=total, budget=room)
    return side_project(collection, name, question, ref, label=label, members=members)


def _asked(query: RebuildQuery) -> RebuildQuery:
    """The query without what changes nothing here: nobody is held out."""
    return replace(query, collection="", group="")


def _collection(query: RebuildQuery) -> Collection:
    found = catalogue().get(query.collection)
    if found is None or found.fingerprint != query.fingerprint:
        raise CollectionError(f"{query.collection} changed while it was read; choose it again")
    return found


def panel(query: RebuildQuery, collection: Collection, source: Provenance, *, k: int) -> None:
    """Ask for a model, and show how much of it the collection's subspace leaves."""
    with st.expander("Project another model", icon=":material/input:", key="newcomer.box"):
        st.caption(
            "A model of the same architecture that is not in the collection: type its folder, or drop one safetensors "
            "file. It stays on the machine the app runs on."
        )
        left, right = st.columns(2)
        typed = left.text_input("Folder", key="newcomer.folder", placeholder="/path/to/model")
        dropped = right.file_uploader("File", type=["safetensors"], key="newcomer.file")
        if not typed and dropped is None:
            return
        try:
            if dropped is not None:
                ref, label = from_upload(dropped.getvalue()), dropped.name.removesuffix(".safetensors")
            else:
                ref, label = from_folder(typed), typed.rstrip("/").rsplit("/", 1)[-1]
            _show(query, collection, source, ref, _apart(label, collection), k=k)
        except UwsError as error:
            page.problem(str(error))


def _show(
    query: RebuildQuery, collection: Collection, source: Provenance, ref: ModelRef, label: str, *, k: int
) -> None:
    if str(ref.commit) in {one.commit for one in collection.refs}:
        st.caption(":material/info: This very model is in the collection; its subspace has seen it.")
    reading = task(query, collection, str(ref))
    if not job_panel.task_panel(reading):
        return
    found = projected(query, str(ref), label)
    most, n = found.together.ceiling, found.together.trained_on
    if k > most:
        st.caption(f":material/info: {k} directions were asked for, the {n} models give {most}; that many are shown.")
    k = min(k, most)
    caption = answer_unseen_model(found.together, k=k, location=view.place(query, collection))
    st.markdown(caption)
    view.unseen_model_curve(found.together, query, _source(source, found, ref, caption), k=k)
    by_layer = reconstruction.by_layer({collection.by_name[name].short: [one] for name, one in found.layers.items()}, k)
    st.dataframe(
        by_layer.drop("model", "group", "nothing", "note"),
        hide_index=True,
        column_config=page.configs(by_layer, HELP, percent=view.PERCENT),
        alt="Errors of the unseen model, layer by layer",
    )
    for one in found.left_out:
        st.caption(f":material/info: {page.plain(one.what)}: {page.plain(one.reason)}")


def _source(source: Provenance, projected: Projected, ref: ModelRef, caption: str) -> Provenance:
    """Where the figure comes from: the collection's models and the unseen one, in the layers they share."""
    return replace(
        view.figure_source(source, f"projected {projected.together.model}", caption),
        models=(*source.models, str(ref)),
        layers=tuple(projected.layers),
        settings={**source.settings, "projected": projected.together.model},
        left_out=(*source.left_out, *projected.left_out),
    )


def _apart(label: str, collection: Collection) -> str:
    """A name that no model of the collection bears."""
    return f"{label} (new)" if label in collection.labels else label
