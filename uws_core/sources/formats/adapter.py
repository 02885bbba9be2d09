"""An adapter's updates as layers: `scale * up @ down`, thin factors that are never multiplied out.

`adapter_layout` decides which keys make which update; here they are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self

from uws_core.errors import LayerError
from uws_core.nouns.loader import Fate, LoaderReport, ScaleFound
from uws_core.nouns.models import LayerKey, LeftOut, LowRank, ModelRef
from uws_core.sources.base import FileStamp, Rows, within
from uws_core.sources.files.tensors import Tensors
from uws_core.sources.formats.adapter_keys import Role, are_telling
from uws_core.sources.formats.adapter_layout import AdapterLayout
from uws_core.sources.formats.adapter_update import Update
from uws_core.sources.formats.tensor_names import first_rows, nearest, shown

if TYPE_CHECKING:
    from torch import Tensor

    from uws_core.sources.files.blob import Extent, RowReader


def is_adapter(tensors: Tensors) -> bool:
    """Whether the tensors are an adapter's, by the configuration beside them or by their names."""
    return bool(tensors.config) or are_telling(tensors.spans)


class Adapter:
    """One adapter; see `Source`. Layers are named as in the base model, factor views `name:A` and `name:B`."""

    format = "adapter"
    stamps: tuple[FileStamp, ...] = ()

    def __init__(self, ref: ModelRef, tensors: Tensors) -> None:
        self.ref = ref
        self._tensors = tensors
        layout = self._layout = AdapterLayout(tensors, ref.adapter)
        self.dialects = layout.dialects
        self.low_rank, self.transposed = layout.low_rank, layout.transposed
        notes = (LeftOut(layout.where, note) for note in layout.notes())
        unused = (LeftOut(shown(one.key), one.why) for one in layout.fates.values() if one.fate is not Fate.USED)
        self.left_out = (*notes, *unused)

    def layers(self) -> tuple[LayerKey, ...]:
        """The updates, weights saved whole, and then the factor views."""
        updates = [LayerKey(name, update.sized.shape) for name, update in self._layout.updates.items() if update.sized]
        return (*updates, *(plain.layer for plain in self._layout.stored.values()))

    def find(self, layer: str) -> LayerKey | None:
        """The layer of that name, the first rows of one, or the only one that is spelled otherwise, or None."""
        own, count = self._spelled(layer)
        if (key := self._layout.key(own)) is None:
            return None
        rows = key.shape[0] if count is None else count
        return LayerKey(layer, (rows, key.shape[1])) if 0 < rows <= key.shape[0] else None

    def digest(self) -> str:
        """The commit of this adapter on disk; its configuration counts, since it sets the scale."""
        return self._tensors.digest()

    def extents(self, layer: str, rows: Rows = None) -> list[Extent]:
        """Where its bytes lie, all of them for any row of an update; see `Source.extents`."""
        layer, rows = self._of_whole(layer, rows)
        if plain := self._layout.stored.get(layer):
            return [self._tensors.extent(plain.key, rows, plain.layer.shape[0])]
        return [self._tensors.extent(key) for key in self._update(layer).keys.values()]

    def stored_bytes(self, layer: str) -> int:
        """The bytes that reading the whole layer moves."""
        return sum(extent.nbytes for extent in self.extents(layer))

    def stored_type(self, layer: str) -> str:
        """The type of a stored matrix, or of an update's `down`."""
        own = self._spelled(layer)[0]
        shown = self._layout.stored.get(own) or self._layout.stored.get(f"{own}:A")
        return self._tensors.span(shown.key).dtype if shown else ""

    def read(self, layer: str, rows: Rows = None, *, into: Tensor | None = None) -> Tensor | LowRank:
        """Rows of a stored matrix, or an update's factors (rows of `up`, all of `down`); see `Source.read`."""
        import torch

        layer, rows = self._of_whole(layer, rows)
        if plain := self._layout.stored.get(layer):
            return self._tensors.read(plain.key, plain.layer.shape, rows, into=into)
        update = self._update(layer)
        form, sized = update.form, update.sized
        if form is None or sized is None:
            raise LayerError(f"{layer} was left out")
        start, stop = within(LayerKey(layer, sized.shape), rows)
        up, down = form.factors(
            lambda role: self._part(update, role, exact=form.stored), update.shapes(self._tensors.spans)
        )
        if self._layout.is_turned(form, update):
            up, down = down.T, up.T
        scale = self._scale(update)[0]
        # An alpha that is no number leaves no entry that is one, which a look at the factors must find too.
        up = up[start:stop] if math.isfinite(scale) else torch.full_like(up[start:stop], math.nan)
        return LowRank(up, down, scale)

    def reader(self, layer: str) -> RowReader | None:
        """What reads rows of a stored matrix many times; None for an update, whose factors are read."""
        plain = self._layout.stored.get(self._spelled(layer)[0])
        return self._tensors.reader(plain.key, plain.layer.shape) if plain else None

    def report(self) -> LoaderReport:
        """What became of every key, and every scale. Price: one small read a module that stores its alpha."""
        scales = []
        for name, update in self._layout.updates.items():
            scale, where = self._scale(update)
            scales.append(ScaleFound(name, update.sized.rank if update.sized else 0, scale, where))
        order = {key: i for i, key in enumerate(self._tensors.spans)}
        fates = tuple(sorted(self._layout.fates.values(), key=lambda one: order[one.key]))
        return LoaderReport(str(self.ref), self.format, self.dialects, fates, tuple(scales), self._layout.notes())

    @property
    def config(self) -> Mapping[str, object]:
        """The configuration beside the weights; see `Portable`."""
        return dict(json.loads(self._tensors.config)) if self._tensors.config else {}

    def untouched(self, layers: Iterable[str]) -> dict[str, Tensor]:
        """Every stored tensor that no update of these layers is made of; see `Portable`."""
        return {
            name: self._tensors.read(name, (1, math.prod(self._tensors.span(name).shape))).reshape(
                self._tensors.span(name).shape
            )
            for name in self._beside(layers)
        }

    def untouched_bytes(self, layers: Iterable[str]) -> int:
        """The stored bytes of `untouched`, from the header."""
        return sum(self._tensors.extent(name).nbytes for name in self._beside(layers))

    def stored_as(self, layer: str) -> tuple[str, tuple[int, ...]]:
        """The module and shape of a layer's update."""
        key = self._layout.key(layer)
        if key is None:
            raise LayerError(f"{self.ref.repo} has no layer {layer!r}")
        return layer.removesuffix(".weight"), key.shape

    def rank(self, layer: str) -> int:
        """The rank of a layer's update."""
        sized = self._update(layer).sized
        return sized.rank if sized else 0

    def _beside(self, layers: Iterable[str]) -> list[str]:
        compressed = {key for layer in layers for key in self._update(layer).keys.values()}
        return [name for name in self._tensors.spans if name not in compressed]

    def _spelled(self, layer: str) -> tuple[str, int | None]:
        """The own name of the layer that a name means, and how many of its first rows; None is all of them."""
        if layer in self._layout.updates or layer in self._layout.stored:
            return layer, None
        name, count = first_rows(layer)
        return nearest(name, {**self._layout.updates, **self._layout.stored}) or name, count

    def _of_whole(self, layer: str, rows: Rows) -> tuple[str, Rows]:
        """The own name of the layer that a name means, and which of its rows."""
        own, count = self._spelled(layer)
        if count is not None and (part := self.find(layer)) is not None:
            return own, within(part, rows)
        return own, rows

    def _part(self, update: Update, role: Role, *, exact: bool) -> Tensor:
        """One part in its stored shape: in its own type where it is handed on, else in one that can be multiplied."""
        import torch

        key = update.keys[role]
        shape = self._tensors.span(key).shape
        values = self._tensors.read(key, (shape[0], math.prod(shape[1:]))).view(shape)
        plain = exact and values.dtype not in (torch.float8_e4m3fn, torch.float8_e5m2)
        return values if plain or values.dtype == torch.float64 else values.float()

    def _scale(self, update: Update) -> tuple[float, str]:
        """The factor before `up @ down` and where it was found, times the one that LyCORIS may train beside it."""
        # The scale by an alpha beside the matrices, by the settings, by one alpha for all, or 1.
        of = update.sized.of if update.sized else None
        key = update.keys.get(Role.ALPHA, "")
        if not key and (settings := self._layout.settings(update.module)):
            scale, where = settings.scale(update.module, of)
        else:
            key = key or self._layout.alpha_key
            if not key:
                scale, where = 1.0, "no alpha and no configuration was found"
            elif of is None:
                scale, where = 1.0, "its matrices are whole, so its alpha is not divided by a rank"
            else:
                alpha = self._tensors.number(key)
                scale, where = alpha / of, f"{key} {alpha:g} / rank {of}"
        if Role.SCALAR not in update.keys:
            return scale, where
        key = update.keys[Role.SCALAR]
        scalar = self._tensors.number(key)
        return scale * scalar, f"{where}; times {key} {scalar:g}"

    def _update(self, layer: str) -> Update:
        if layer not in self._layout.updates:
            raise LayerError(
                f"{self.ref.repo} has no layer {layer!r}; it has {len(self._layout.updates) + len(self._layout.stored)}"
            )
        return self._layout.updates[layer]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *stop: object) -> None:
        """Nothing is held open."""
