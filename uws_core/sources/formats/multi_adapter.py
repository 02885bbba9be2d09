"""Several adapters in one file: each is a model of its own; the keys of the file are parsed once."""

from __future__ import annotations

from dataclasses import replace

from uws_core.nouns.loader import Fate, KeyFate, LoaderReport
from uws_core.nouns.models import ModelRef
from uws_core.sources.files.tensors import Tensors
from uws_core.sources.formats.adapter import Adapter


class OneOfSeveral(Adapter):
    """The adapter that a part `:name` picks; it understands and digests its own keys, and reports all of the file's."""

    def __init__(self, ref: ModelRef, tensors: Tensors, name: str) -> None:
        super().__init__(ref, tensors.of_adapter(name))
        self._whole = tensors

    def report(self) -> LoaderReport:
        """What became of every key; see `Adapter.report`."""
        own = super().report()
        fates = {one.key: one for one in own.keys}
        for name, names in self._whole.by_adapter.items():
            others = (key for key in names if key not in fates)
            fates |= {key: KeyFate(key, Fate.IGNORED, f"it belongs to the adapter {name}") for key in others}
        return replace(own, keys=tuple(fates[key] for key in self._whole.spans))


def opened_adapter(ref: ModelRef, tensors: Tensors) -> Adapter:
    """The adapter that a reference names: the only one, or one of several.

    Raises:
        MultipleAdapters: there are several and none, or another one, is named.
        UnsupportedFormat: nothing that is understood is there.
    """
    name = ref.adapter
    return OneOfSeveral(ref, tensors, name) if name and name in tensors.by_adapter else Adapter(ref, tensors)
