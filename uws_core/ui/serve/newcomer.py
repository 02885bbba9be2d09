"""A model from outside: a folder under the roots or one uploaded file, projected on the collection's subspace."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import streamlit as st

from uws_core import run
from uws_core.analysis.heldout import pooled, project
from uws_core.errors import CollectionError, LayerError, NotEnoughModels, UwsError
from uws_core.nouns.factors import Factors
from uws_core.nouns.gram import Axis
from uws_core.nouns.heldout import HeldOut
from uws_core.nouns.models import Collection, LeftOut, ModelRef
from uws_core.nouns.query import Query
from uws_core.nouns.views import RebuildQuery
from uws_core.ui import folders
from uws_core.ui.catalogue import catalogue
from uws_core.ui.serve import grams
from uws_core.ui.serve.reconstruction import kept_on

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
    from uws_core.sources import resolved

    return resolved(ModelRef(str(folders.allowed(text)), ""))[0]


def from_upload(content: bytes) -> ModelRef:
    """The model in an uploaded safetensors file, kept in a private folder of temporary files.

    Raises:
        SourceError: the bytes are no safetensors file.
    """
    from uws_core.sources import resolved

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


@st.cache_data(max_entries=64, max_size="64mb", show_spinner="Comparing the model with the collection")
def projected(query: RebuildQuery, model: str, label: str) -> Projected:
    """A model's errors in the query's layers; `model` is its reference with its content.

    Raises:
        LayerError: no layer can be compared.
        SourceError: the model or the collection cannot be read.
    """
    from uws_core.passes.project import comparable

    collection = _collection(query)
    shared, left_out = comparable(collection, ModelRef.parse(model))
    found: dict[str, HeldOut] = {}
    problems = [one for one in left_out if one.what in query.layers or one.what not in collection.by_name]
    for layer in shared:
        if layer.name not in query.layers:
            continue
        try:
            found[layer.name] = _one(replace(query, layers=(layer.name,)), query, collection, model, label)
        except (LayerError, NotEnoughModels) as error:
            problems.append(LeftOut(layer.name, str(error)))
    if not found:
        raise LayerError(
            f"{label} has none of the {len(query.layers)} chosen layers in the same shape; "
            + "; ".join(f"{one.what}: {one.reason}" for one in problems[:3])
        )
    (together,) = pooled([(one,) for one in found.values()])
    return Projected(found, together, tuple(problems))


def _one(query: RebuildQuery, whole: RebuildQuery, collection: Collection, model: str, label: str) -> HeldOut:
    """The errors in one layer."""
    from uws_core.passes.project import newcomer
    from uws_core.passes.side_heldout import SideQuestion, side_project

    name, ref, kept = query.layers[0], ModelRef.parse(model), kept_on(whole, collection)
    own = _own(query, collection, ref, label) if query.own else None
    if query.axis == Axis.MODELS:
        (gram,) = grams.of(Query(query.collection, query.fingerprint, query.members, query.layers))
        row = newcomer(collection, name, ref, gram=gram, label=label)
        options = {"about": query.about, "reference": query.reference}
        return project(gram, row, kept=kept, members=query.members, own=own, **options)
    total = run.side(collection, name, axis=query.axis, members=query.members)
    question = SideQuestion(Axis(query.axis), kept, reference=query.reference, own=own, total=total)
    return side_project(collection, name, question, ref, label=label, members=query.members)


def _own(query: RebuildQuery, collection: Collection, ref: ModelRef, label: str) -> Factors:
    """The newcomer's own singular values, about what the errors are relative to; the mean then includes it."""
    from uws_core.passes.factors import factors

    rows = [*query.members]
    wide = replace(
        collection,
        refs=(*(collection.refs[row] for row in rows), ref),
        labels=(*(collection.labels[row] for row in rows), label),
        table={},
    )
    members = None if query.reference == "mean" else [len(rows)]
    return factors(wide, query.layers[0], kept=1, about=query.reference, members=members)


def _collection(query: RebuildQuery) -> Collection:
    found = catalogue().get(query.collection)
    if found is None or found.fingerprint != query.fingerprint:
        raise CollectionError(f"{query.collection} changed while it was read; choose it again")
    return found
