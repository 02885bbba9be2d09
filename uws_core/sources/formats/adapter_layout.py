"""Which keys of an adapter make which update: decided from names, shapes and settings, and nothing is read.

Every key is used or listed with the reason; a module with a part that is not known is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from uws_core.errors import UnsupportedFormat
from uws_core.nouns.loader import Fate, KeyFate
from uws_core.nouns.models import LayerKey, LeftOut
from uws_core.sources.files.header import FLOATS, NUMBERS, as_layer
from uws_core.sources.files.tensors import Tensors
from uws_core.sources.formats.adapter_config import Settings, is_conv1d, other_alpha, settings_in_header, settings_of
from uws_core.sources.formats.adapter_keys import Key, Role, is_telling, parsed
from uws_core.sources.formats.adapter_methods import MLX, Form, Sized, form_of
from uws_core.sources.formats.adapter_update import Update
from uws_core.sources.formats.tensor_names import LayerNames, shown, too_long, unwrapped

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
class StoredLayer:
    """A layer that is one stored tensor: its key, and the m x p that it is seen as."""

    key: str
    layer: LayerKey


class AdapterLayout:
    """The updates and stored layers of one adapter by layer, the fate of every key, and the settings.

    Raises:
        MultipleAdapters: there are several and none, or another one, is chosen.
        UnsupportedFormat: nothing that is understood is there.
    """

    def __init__(self, tensors: Tensors, chosen: str) -> None:
        self.own = settings_of(tensors.config) if tensors.config else None
        self.in_header = settings_in_header(tensors.metadata)
        self.other_alpha = other_alpha(tensors.metadata)
        self.fates: dict[str, KeyFate] = {}
        self.updates: dict[str, Update] = {}
        self.stored: dict[str, StoredLayer] = {}
        self._spans = spans = tensors.spans
        one = (name for name in _ALPHA_KEYS if name in spans and spans[name].dtype in NUMBERS)
        self.alpha_key = next((name for name in one if math.prod(spans[name].shape) == 1), "")
        self.keys = {name: parsed(name, peft=self.own is not None) for name in spans}
        self._sort(chosen)
        self.has_conv1d = any(is_conv1d(update.module) for update in self.updates.values())
        for update in list(self.updates.values()):
            self._understand(update)
        full = (key.layer for key in self.keys.values() if key and key.role is Role.DIFF)
        if not self.updates and not any(layer in self.stored for layer in full):
            reasons = [fate.why for fate in self.fates.values() if fate.fate is Fate.UNMATCHED]
            strange = sorted((key for key in self.keys if not self.keys[key]), key=is_telling, reverse=True)
            reasons += [f"{shown(key)} is no name that is known here" for key in strange[:1]]
            raise UnsupportedFormat(
                f"{self.where} describes an adapter, but no update that is understood is there"
                + (f": {reasons[0]}" if reasons else "")
            )
        dialects = dict.fromkeys(key.dialect for key in self.keys.values() if key)
        self.dialects = tuple(name for name in dialects if name != "unknown" or len(dialects) == 1)
        names, own = [*self.updates, *self.stored], self.own
        turned = (
            layer
            for layer, update in self.updates.items()
            if own and own.turns(update.module, has_conv1d=self.has_conv1d)
        )
        self.low_rank: Set[str] = LayerNames(self.updates, names)
        self.transposed: Set[str] = LayerNames(turned, names)

    def key(self, name: str) -> LayerKey | None:
        """The update or stored matrix of exactly that name."""
        if name in self.stored:
            return self.stored[name].layer
        update = self.updates.get(name)
        return LayerKey(name, update.sized.shape) if update is not None and update.sized else None

    def settings(self, module: str) -> Settings | None:
        """The settings that count for a module: the configuration's, its component's in the header, or the header's."""
        return self.own or self.in_header.get(module.partition(".")[0]) or self.in_header.get("")

    def is_turned(self, form: Form, update: Update) -> bool:
        """Whether the stored factors are those of the transposed layer."""
        if form.name == MLX:
            return update.module.rpartition(".")[2] in _EMBEDDINGS
        turned = self.own is not None and self.own.turns(update.module, has_conv1d=self.has_conv1d)
        return form.turned or (form.takes_flag and turned)

    def notes(self) -> tuple[str, ...]:
        """What a reader of the updates should know."""
        every = [self.own] if self.own else list(self.in_header.values())
        bare = [one for one in self.updates.values() if Role.ALPHA not in one.keys and not self.settings(one.module)]
        bare = [] if self.alpha_key else bare
        bare = [one for one in bare if one.sized and one.sized.of]
        if bare and self.other_alpha:
            return (f"scale assumed 1: {self.other_alpha}", *(note for settings in every for note in settings.notes))
        some = f" for {len(bare)} of {len(self.updates)} updates" if len(bare) < len(self.updates) else ""
        assumed = [f"scale assumed 1{some}: no alpha in the file and no adapter_config.json"] if bare else []
        unsure = [_UNSURE_SIDES] if self.own and self.has_conv1d and not self.transposed else []
        return tuple(dict.fromkeys([*assumed, *unsure, *(note for settings in every for note in settings.notes)]))

    @property
    def where(self) -> str:
        """The place of the settings, for messages."""
        return self.own.where if self.own else "the file"

    def _sort(self, chosen: str) -> None:
        """Every key to its module, or to the list of what is not used."""
        adapters = sorted({key.adapter for key in self.keys.values() if key and key.adapter})
        if chosen not in adapters and (chosen or len(adapters) > 1):
            found = ", ".join(adapters[:5]) or "none with a name"
            raise MultipleAdapters(
                f"{len(adapters)} adapters in one file ({found}); name one as part ':name'", adapters
            )
        updated = {key.layer for key in self.keys.values() if key and key.role in _FACTORS}
        own = {key.layer for key in self.keys.values() if key and key.role is Role.SAVED}
        # An adapter saved by itself holds no weights of the modules that it updates.
        whole_state = bool(updated & own) or any(key.role is Role.BASE for key in self.keys.values() if key)
        unprefixed = whole_state and not any(name.startswith("base_model.model.") for name in self.keys)
        for name, key in self.keys.items():
            if name == self.alpha_key:
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
        # Stops the plain reading of modules with a part that is not known, such as LoRA-XS' latent mapping.
        stems = {key.stem: key for key in self.keys.values() if key and key.role in _FACTORS}
        for name, key in self.keys.items():
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
            self.updates.setdefault(layer, Update(stems[stem].module)).blocked = f"{stems[stem].module}: {reason}"

    def _why_base(self, key: Key, *, whole_state: bool) -> str:
        """The reason why a weight under its own name is the frozen base's, or nothing where it was trained whole."""
        if whole_state:
            return _WHOLE_STATE
        if self.own is None or self.own.whole is None:
            return ""
        words = key.module.split(".")
        if any(".".join(words[i:]) in self.own.whole or words[i] in self.own.whole for i in range(len(words))):
            return ""
        return f"the base model's own weight, saved along: modules_to_save of {self.own.where} does not name it"

    def _place(self, name: str, key: Key) -> None:
        if key.role in _LISTED:
            self._list(name, Fate.IGNORED, _LISTED[key.role])
        elif key.role in (Role.OTHER, Role.UNKNOWN):
            other = f"a part of {key.method}, which is no product of small matrices here"
            reason = other if key.role is Role.OTHER else f"{key.method} is a part that is not known here"
            self._list(name, Fate.UNMATCHED, reason)
            self.updates.setdefault(key.layer, Update(key.module)).blocked = f"{key.module}: {reason}"
        elif key.role in (Role.WEIGHT, Role.SAVED, Role.DIFF):
            # A tensor that is a layer as it stands: a weight trained whole, or a full update.
            span, layer = self._spans[name], key.layer
            found = as_layer(layer, span.dtype, span.shape)
            if isinstance(found, LeftOut):
                self._list(name, Fate.IGNORED, found.reason)
            elif layer in self.stored:
                self._list(name, Fate.UNMATCHED, f"a second weight of {layer}; the first is used")
            else:
                self.stored[layer] = StoredLayer(name, found)
                whole = "a weight trained whole beside the updates"
                self._list(name, Fate.USED, f"a {key.role}, not in factors" if key.role is Role.DIFF else whole)
        else:
            update = self.updates.setdefault(key.layer, Update(key.module))
            update.alone = update.alone and not key.adapter
            if key.role in update.keys:
                self._list(name, Fate.UNMATCHED, f"a second {key.role} of {key.module}; the first is used")
            else:
                update.keys[key.role] = name

    def _understand(self, update: Update) -> None:
        """The form and size of one module's update; where there is none, every key is listed with the reason."""
        layer = f"{update.module}.weight"
        shapes = update.shapes(self._spans)
        form = form_of(shapes)
        sized = form.size(shapes) if form else None
        problem = update.problem(form, sized, self._spans, self.settings(update.module))
        if problem or form is None or sized is None:
            del self.updates[layer]
            for name in update.keys.values():
                self._list(name, Fate.UNMATCHED, problem)
            return
        if self.is_turned(form, update):
            sized = Sized((sized.shape[1], sized.shape[0]), sized.rank, sized.of)
        update.form, update.sized = form, sized
        for role, name in update.keys.items():
            self._list(name, Fate.USED, f"{role} of {layer} ({form.name})")
        if layer in self.stored:
            whole = self.stored.pop(layer)
            self._list(whole.key, Fate.IGNORED, "its layer also has a low-rank update, which is compared")
        if form.stored and all(
            self._spans[name].dtype in FLOATS for role, name in update.keys.items() if role in _FACTORS
        ):
            # `name:A` (r x p) and `name:B` (m x r), as they are stored: without scale, and not turned.
            for side, roles in (("A", (Role.DOWN, Role.EMBED_DOWN)), ("B", (Role.UP, Role.EMBED_UP))):
                key = next(update.keys[role] for role in roles if role in update.keys)
                shape = self._spans[key].shape
                view = LayerKey(f"{layer}:{side}", (shape[0], math.prod(shape[1:])))
                self.stored[view.name] = StoredLayer(key, view)

    def _list(self, key: str, fate: Fate, why: str) -> None:
        self.fates[key] = KeyFate(key, fate, why)
