"""An adapter's updates as layers: `scale * up @ down`, thin factors that are never multiplied out.

Adapters of PEFT, kohya's trainer, diffusers and ComfyUI are read; every key is used or listed with the reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from uws_core.errors import LayerError, UnsupportedFormat
from uws_core.nouns.loader import Fate, KeyFate, LoaderReport, ScaleFound
from uws_core.nouns.models import LayerKey, LeftOut, LowRank, ModelRef
from uws_core.sources.base import FileStamp, Rows, within
from uws_core.sources.files.header import FLOATS, as_layer
from uws_core.sources.files.tensors import Tensors
from uws_core.sources.formats.adapter_config import Settings, is_conv1d, other_alpha, settings_in_header, settings_of
from uws_core.sources.formats.adapter_keys import Key, Role, are_telling, is_telling, parsed
from uws_core.sources.formats.adapter_methods import MLX, Form, Sized, form_of
from uws_core.sources.formats.adapter_update import Update
from uws_core.sources.formats.tensor_names import LayerNames, first_rows, nearest, shown, too_long, unwrapped

if TYPE_CHECKING:
    from torch import Tensor

    from uws_core.sources.files.blob import Extent, RowReader

# Roles that are listed, not compared.
_LISTED: Final[Mapping[Role, str]] = {
    Role.MAGNITUDE: "DoRA's magnitudes: the low-rank part is compared as it is before they rescale it",
    Role.BIAS: "an update of a vector, not of a matrix",
    Role.BASE: "the base model's own weights, saved with the adapter",
    Role.TRAINING: "state of the training, no part of the update",
}
# Keys that hold one alpha for all modules.
_ALPHA_KEYS: Final = ("alpha", "lora_alpha", "network_alpha")
# mlx-lm stores embeddings as the base does, and other layers as inputs x outputs.
_EMBEDDINGS: Final = frozenset(
    {"embed_tokens", "wte", "wpe", "tok_embeddings", "word_embeddings", "embedding", "embed"}
)
_UNSURE_SIDES: Final = (
    "fan_in_fan_out is false, and modules are named as those that GPT-2 stores as inputs x outputs: if the base does "
    "so too, their sides in and out are each other's"
)
_WHOLE_STATE: Final = "the base model's own weights: the file holds the state of the whole model with the adapter in it"


# Parts that make an update of a matrix.
_FACTORS: Final = frozenset({Role.DOWN, Role.UP, Role.INPUT_DOWN, Role.OUTPUT_UP, Role.EMBED_DOWN, Role.EMBED_UP})


class MultipleAdapters(UnsupportedFormat):
    """One file holds several adapters; `names` says which, and a part `file:name` or `:name` picks one."""

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


@dataclass(frozen=True, slots=True)
class _Plain:
    """A layer that is one stored tensor: its key, and the m x p that it is seen as."""

    key: str
    layer: LayerKey


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
        self._own = settings_of(tensors.config) if tensors.config else None
        self._in_header = settings_in_header(tensors.metadata)
        self._other_alpha = other_alpha(tensors.metadata)
        self._fates: dict[str, KeyFate] = {}
        self._updates: dict[str, Update] = {}
        self._plain: dict[str, _Plain] = {}
        self._alpha_key = next((name for name in _ALPHA_KEYS if name in tensors.spans), "")
        self._keys = {name: parsed(name, peft=self._own is not None) for name in tensors.spans}
        self._sort(ref.adapter)
        modules = [update.module for update in self._updates.values()]
        self._has_conv1d = any(map(is_conv1d, modules))
        for update in list(self._updates.values()):
            self._understand(update)
        if not self._updates and not any(fate.fate is Fate.USED for fate in self._fates.values()):
            reasons = [fate.why for fate in self._fates.values() if fate.fate is Fate.UNMATCHED]
            strange = sorted((key for key in self._keys if not self._keys[key]), key=is_telling, reverse=True)
            reasons += [f"{shown(key)} is no name that is known here" for key in strange[:1]]
            raise UnsupportedFormat(
                f"{self._where()} describes an adapter, but no update that is understood is there"
                + (f": {reasons[0]}" if reasons else "")
            )
        dialects = dict.fromkeys(key.dialect for key in self._keys.values() if key)
        self.dialects = tuple(name for name in dialects if name != "unknown" or len(dialects) == 1)
        own = self._own
        turned = [
            layer
            for layer, update in self._updates.items()
            if own and own.turns(update.module, has_conv1d=self._has_conv1d)
        ]
        names = [*self._updates, *self._plain]
        self.low_rank: Set[str] = LayerNames(self._updates, names)
        self.transposed: Set[str] = LayerNames(turned, names)
        unused = tuple(LeftOut(shown(one.key), one.why) for one in self._fates.values() if one.fate is not Fate.USED)
        self.left_out = (*(LeftOut(self._where(), note) for note in self._notes()), *unused)

    def layers(self) -> tuple[LayerKey, ...]:
        """The updates, weights saved whole, and then the factor views."""
        updates = [LayerKey(name, update.sized.shape) for name, update in self._updates.items() if update.sized]
        return (*updates, *(plain.layer for plain in self._plain.values()))

    def find(self, layer: str) -> LayerKey | None:
        """The layer of that name, the first rows of one, or the only one that is spelled otherwise, or None."""
        own, count = self._spelled(layer)
        if (key := self._key(own)) is None:
            return None
        rows = key.shape[0] if count is None else count
        return LayerKey(layer, (rows, key.shape[1])) if 0 < rows <= key.shape[0] else None

    def digest(self) -> str:
        """The commit of this adapter on disk; its configuration counts, since it sets the scale."""
        return self._tensors.digest()

    def extents(self, layer: str, rows: Rows = None) -> list[Extent]:
        """Where its bytes lie, all of them for any row of an update; see `Source.extents`."""
        layer, rows = self._of_whole(layer, rows)
        if plain := self._plain.get(layer):
            return [self._tensors.extent(plain.key, rows, plain.layer.shape[0])]
        return [self._tensors.extent(key) for key in self._update(layer).keys.values()]

    def stored_bytes(self, layer: str) -> int:
        """The bytes that reading the whole layer moves."""
        return sum(extent.nbytes for extent in self.extents(layer))

    def stored_type(self, layer: str) -> str:
        """The type of a stored matrix, or of an update's `down`."""
        own = self._spelled(layer)[0]
        shown = self._plain.get(own) or self._plain.get(f"{own}:A")
        return self._tensors.span(shown.key).dtype if shown else ""

    def read(self, layer: str, rows: Rows = None, *, into: Tensor | None = None) -> Tensor | LowRank:
        """Rows of a stored matrix, or an update's factors (rows of `up`, all of `down`); see `Source.read`."""
        import torch

        layer, rows = self._of_whole(layer, rows)
        if plain := self._plain.get(layer):
            return self._tensors.read(plain.key, plain.layer.shape, rows, into=into)
        update = self._update(layer)
        form, sized = update.form, update.sized
        if form is None or sized is None:
            raise LayerError(f"{layer} was left out")
        start, stop = within(LayerKey(layer, sized.shape), rows)
        up, down = form.factors(
            lambda role: self._part(update, role, exact=form.stored), update.shapes(self._tensors.spans)
        )
        if self._is_turned(form, update):
            up, down = down.T, up.T
        scale = self._scale(update)[0]
        # An alpha that is no number leaves no entry that is one, which a look at the factors must find too.
        up = up[start:stop] if math.isfinite(scale) else torch.full_like(up[start:stop], math.nan)
        return LowRank(up, down, scale)

    def reader(self, layer: str) -> RowReader | None:
        """What reads rows of a stored matrix many times; None for an update, whose factors are read."""
        plain = self._plain.get(self._spelled(layer)[0])
        return self._tensors.reader(plain.key, plain.layer.shape) if plain else None

    def report(self) -> LoaderReport:
        """What became of every key, and every scale. Price: one small read a module that stores its alpha."""
        scales = []
        for name, update in self._updates.items():
            scale, where = self._scale(update)
            scales.append(ScaleFound(name, update.sized.rank if update.sized else 0, scale, where))
        order = {key: i for i, key in enumerate(self._tensors.spans)}
        fates = tuple(sorted(self._fates.values(), key=lambda one: order[one.key]))
        return LoaderReport(str(self.ref), self.format, self.dialects, fates, tuple(scales), self._notes())

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
        key = self._key(layer)
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

    def _key(self, name: str) -> LayerKey | None:
        """The update or stored matrix of exactly that name."""
        if name in self._plain:
            return self._plain[name].layer
        update = self._updates.get(name)
        return LayerKey(name, update.sized.shape) if update is not None and update.sized else None

    def _spelled(self, layer: str) -> tuple[str, int | None]:
        """The own name of the layer that a name means, and how many of its first rows; None is all of them."""
        if layer in self._updates or layer in self._plain:
            return layer, None
        name, count = first_rows(layer)
        return nearest(name, {**self._updates, **self._plain}) or name, count

    def _of_whole(self, layer: str, rows: Rows) -> tuple[str, Rows]:
        """The own name of the layer that a name means, and which of its rows."""
        own, count = self._spelled(layer)
        if count is not None and (part := self.find(layer)) is not None:
            return own, within(part, rows)
        return own, rows

    def _sort(self, chosen: str) -> None:
        """Every key to its module, or to the list of what is not used."""
        adapters = sorted({key.adapter for key in self._keys.values() if key and key.adapter})
        if chosen not in adapters and (chosen or len(adapters) > 1):
            found = ", ".join(adapters[:5]) or "none with a name"
            raise MultipleAdapters(
                f"{len(adapters)} adapters in one file ({found}); name one as part ':name'", adapters
            )
        updated = {key.layer for key in self._keys.values() if key and key.role in _FACTORS}
        own = {key.layer for key in self._keys.values() if key and key.role is Role.SAVED}
        # An adapter saved by itself holds no weights of the modules that it updates.
        whole_state = bool(updated & own) or any(key.role is Role.BASE for key in self._keys.values() if key)
        unprefixed = whole_state and not any(name.startswith("base_model.model.") for name in self._keys)
        for name, key in self._keys.items():
            if name == self._alpha_key:
                self._list(name, Fate.USED, "the alpha of all updates")
            elif key is None:
                unknown = _WHOLE_STATE if unprefixed else "no trainer known here writes such a name"
                self._list(name, Fate.IGNORED if unprefixed else Fate.UNKNOWN, too_long(name) or unknown)
            elif key.adapter and chosen and key.adapter != chosen:
                self._list(name, Fate.IGNORED, f"it belongs to the adapter {key.adapter}")
            elif key.role is Role.SAVED and (reason := self._why_base(key, whole_state=whole_state)):
                self._list(name, Fate.IGNORED, reason)
            else:
                self._place(name, key)
        self._block_parts_beside()

    def _block_parts_beside(self) -> None:
        """Stops the plain reading of modules with a part that is not known, such as LoRA-XS' latent mapping."""
        stems = {key.stem: key for key in self._keys.values() if key and key.role in _FACTORS}
        for name, key in self._keys.items():
            if key is not None and key.role is not Role.SAVED:
                continue
            words = unwrapped(name).split(".")
            stem = next((stem for end in range(1, len(words)) if (stem := ".".join(words[:end])) in stems), "")
            part = unwrapped(name)[len(stem) + 1 :]
            if not stem or part in ("weight", "bias") or (key is not None and "lora" not in part.lower()):
                continue
            if part == "m" and stems[stem].dialect == "mlx":
                self._list(name, Fate.IGNORED, _LISTED[Role.MAGNITUDE])
                continue
            reason = f"{part} is a part that is not known here"
            self._list(name, Fate.UNMATCHED, reason)
            layer = stems[stem].layer
            self._updates.setdefault(layer, Update(stems[stem].module)).blocked = f"{stems[stem].module}: {reason}"

    def _why_base(self, key: Key, *, whole_state: bool) -> str:
        """The reason why a weight under its own name is the frozen base's, or nothing where it was trained whole."""
        if whole_state:
            return _WHOLE_STATE
        if self._own is None or self._own.whole is None:
            return ""
        words = key.module.split(".")
        if any(".".join(words[i:]) in self._own.whole or words[i] in self._own.whole for i in range(len(words))):
            return ""
        return f"the base model's own weight, saved along: modules_to_save of {self._own.where} does not name it"

    def _place(self, name: str, key: Key) -> None:
        if key.role in _LISTED:
            self._list(name, Fate.IGNORED, _LISTED[key.role])
        elif key.role in (Role.OTHER, Role.UNKNOWN):
            other = f"a part of {key.method}, which is no product of small matrices here"
            reason = other if key.role is Role.OTHER else f"{key.method} is a part that is not known here"
            self._list(name, Fate.UNMATCHED, reason)
            self._updates.setdefault(key.layer, Update(key.module)).blocked = f"{key.module}: {reason}"
        elif key.role in (Role.WEIGHT, Role.SAVED, Role.DIFF):
            self._keep_plain(name, key)
        else:
            update = self._updates.setdefault(key.layer, Update(key.module))
            update.alone = update.alone and not key.adapter
            if key.role in update.keys:
                self._list(name, Fate.UNMATCHED, f"a second {key.role} of {key.module}; the first is used")
            else:
                update.keys[key.role] = name

    def _keep_plain(self, name: str, key: Key) -> None:
        """A tensor that is a layer as it stands: a weight trained whole, or a full update."""
        span, layer = self._tensors.span(name), key.layer
        found = as_layer(layer, span.dtype, span.shape)
        if isinstance(found, LeftOut):
            self._list(name, Fate.IGNORED, found.reason)
        elif layer in self._plain:
            self._list(name, Fate.UNMATCHED, f"a second weight of {layer}; the first is used")
        else:
            self._plain[layer] = _Plain(name, found)
            whole = "a weight trained whole beside the updates"
            self._list(name, Fate.USED, f"a {key.role}, not in factors" if key.role is Role.DIFF else whole)

    def _understand(self, update: Update) -> None:
        """The form and size of one module's update; where there is none, every key is listed with the reason."""
        layer = f"{update.module}.weight"
        shapes = update.shapes(self._tensors.spans)
        form = form_of(shapes)
        sized = form.size(shapes) if form else None
        problem = update.problem(form, sized, self._tensors.spans, self._settings(update.module))
        if problem or form is None or sized is None:
            del self._updates[layer]
            for name in update.keys.values():
                self._list(name, Fate.UNMATCHED, problem)
            return
        if self._is_turned(form, update):
            sized = Sized((sized.shape[1], sized.shape[0]), sized.rank, sized.of)
        update.form, update.sized = form, sized
        for role, name in update.keys.items():
            self._list(name, Fate.USED, f"{role} of {layer} ({form.name})")
        if layer in self._plain:
            whole = self._plain.pop(layer)
            self._list(whole.key, Fate.IGNORED, "its layer also has a low-rank update, which is compared")
        if form.stored and all(
            self._tensors.span(name).dtype in FLOATS for role, name in update.keys.items() if role in _FACTORS
        ):
            self._add_views(layer, update)

    def _add_views(self, layer: str, update: Update) -> None:
        """`name:A` (r x p) and `name:B` (m x r), as they are stored: without scale, and not turned."""
        for side, roles in (("A", (Role.DOWN, Role.EMBED_DOWN)), ("B", (Role.UP, Role.EMBED_UP))):
            key = next(update.keys[role] for role in roles if role in update.keys)
            shape = self._tensors.span(key).shape
            view = LayerKey(f"{layer}:{side}", (shape[0], math.prod(shape[1:])))
            self._plain[view.name] = _Plain(key, view)

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
        scale, where = self._stated_scale(update, update.sized.of if update.sized else None)
        if Role.SCALAR not in update.keys:
            return scale, where
        key = update.keys[Role.SCALAR]
        scalar = self._tensors.number(key)
        return scale * scalar, f"{where}; times {key} {scalar:g}"

    def _stated_scale(self, update: Update, of: int | None) -> tuple[float, str]:
        """The scale by an alpha beside the matrices, by the settings, by one alpha for all, or 1."""
        key = update.keys.get(Role.ALPHA, "")
        if not key and (settings := self._settings(update.module)):
            return settings.scale(update.module, of)
        key = key or self._alpha_key
        if not key:
            return 1.0, "no alpha and no configuration was found"
        if of is None:
            return 1.0, "its matrices are whole, so its alpha is not divided by a rank"
        alpha = self._tensors.number(key)
        return alpha / of, f"{key} {alpha:g} / rank {of}"

    def _settings(self, module: str) -> Settings | None:
        return self._own or self._in_header.get(module.partition(".")[0]) or self._in_header.get("")

    def _is_turned(self, form: Form, update: Update) -> bool:
        if form.name == MLX:
            return update.module.rpartition(".")[2] in _EMBEDDINGS
        turned = self._own is not None and self._own.turns(update.module, has_conv1d=self._has_conv1d)
        return form.turned or (form.takes_flag and turned)

    def _update(self, layer: str) -> Update:
        if layer not in self._updates:
            raise LayerError(f"{self.ref.repo} has no layer {layer!r}; it has {len(self._updates) + len(self._plain)}")
        return self._updates[layer]

    def _list(self, key: str, fate: Fate, why: str) -> None:
        self._fates[key] = KeyFate(key, fate, why)

    def _notes(self) -> tuple[str, ...]:
        every = [self._own] if self._own else list(self._in_header.values())
        bare = [one for one in self._updates.values() if Role.ALPHA not in one.keys and not self._settings(one.module)]
        bare = [] if self._alpha_key else bare
        bare = [one for one in bare if one.sized and one.sized.of]
        if bare and self._other_alpha:
            return (f"scale assumed 1: {self._other_alpha}", *(note for settings in every for note in settings.notes))
        some = f" for {len(bare)} of {len(self._updates)} updates" if len(bare) < len(self._updates) else ""
        assumed = [f"scale assumed 1{some}: no alpha in the file and no adapter_config.json"] if bare else []
        unsure = [_UNSURE_SIDES] if self._own and self._has_conv1d and not self.transposed else []
        return tuple(dict.fromkeys([*assumed, *unsure, *(note for settings in every for note in settings.notes)]))

    def _where(self) -> str:
        return self._own.where if self._own else "the file"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *stop: object) -> None:
        """Nothing is held open."""
