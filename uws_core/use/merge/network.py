"""A merged network tensor by tensor: what of it is merged, what is averaged, what is copied, and each one's numbers.

The rule: matrices that all members have are merged by the recipe. Other tensors (biases, norms, embeddings that no
layer was made of) are merged by the same method where all members have them in one shape, and averaged by methods in
factors. What not all have alike, and integers, are copied from the base, or from the first member where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from uws_core.errors import CollectionError
from uws_core.nouns.merging import Convention, MergedLayer, MergeMethod
from uws_core.nouns.models import ModelRef
from uws_core.sources.base import Portable, on_hub
from uws_core.sources.files.blob import torch_dtypes
from uws_core.sources.files.folder import tensors_at
from uws_core.sources.files.header import FLOATS
from uws_core.sources.files.tensors import Tensors
from uws_core.sources.formats import pickled
from uws_core.sources.formats.tensor_names import unwrapped
from uws_core.sources.opening import open_source
from uws_core.use.merge.dense import AnyUpdates, HeldTensor, merged_pieces, open_updates
from uws_core.use.merge.forming import HERE, Crew, Formed, NetworkTensor, formed, trimmed_over
from uws_core.use.merge.measures import Sums
from uws_core.use.merge.order import Cut
from uws_core.use.merge.plan import MergePlan, some_of

_KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# A copied tensor is read in pieces of this many numbers.
_PIECE = 1 << 22


class Network:
    """The merged network of a plan: its tensors in the order of the template's names, each formed when it is asked for.

    The template is the base, or the first member.
    """

    def __init__(self, plan: MergePlan) -> None:
        self.plan = plan
        collection = plan.collection
        self.template = collection.base or collection.refs[plan.members[0]]
        self._stored = _stored_tensors(self.template)
        self._members = [_stored_tensors(collection.refs[row]) for row in plan.members]
        self._names = [{unwrapped(name): name for name in tensors.spans} for tensors in self._members]
        # The chosen layers by the name that the template stores them under.
        source = open_source(self.template)
        if not isinstance(source, Portable):
            raise CollectionError(
                f"{self.template.repo}: models in this format cannot be merged; convert them to safetensors"
            )
        self._layers = {source.stored_as(key.name)[0]: key for key in plan.layers}
        packed = [key.name for key in plan.layers if open_source(self.template).reader(key.name) is None]
        if packed:
            raise CollectionError(
                f"{self.template.repo} stores {len(packed)} layers packed or in eight bits ({packed[0]}); a merge is "
                "written in plain numbers, so convert that model first"
            )

    @cached_property
    def tensors(self) -> tuple[NetworkTensor, ...]:
        """All tensors, sorted by name."""
        found = []
        for name, span in self._stored.spans.items():
            own = torch.bool if span.dtype == "BOOL" else torch_dtypes()[span.dtype]
            is_float = span.dtype in FLOATS
            dtype = _KINDS[self.plan.dtype] if self.plan.dtype != "auto" and is_float else own
            key = self._layers.get(name)
            whole = key is not None and key.whole == key.name
            merged = whole or (is_float and name not in self._unchosen and self._everywhere(name, span.shape))
            found.append(NetworkTensor(name, span.shape, dtype, merged, key if whole else None))
        return tuple(sorted(found, key=lambda one: one.name))

    @property
    def nbytes(self) -> int:
        """The bytes of all tensors."""
        return sum(one.nbytes for one in self.tensors)

    def notes(self) -> tuple[str, ...]:
        """What was averaged and what was copied, in sentences."""
        vectors = [one.name for one in self.tensors if one.merged and one.key is None]
        copied = [one.name for one in self.tensors if not one.merged]
        notes = []
        if vectors:
            how = "Averaged" if self.plan.recipe.facts.need == "factors" else f"Merged by {self.plan.recipe.method} too"
            notes.append(f"{how}, being no matrices: {some_of(vectors)}")
        if copied:
            origin = "the base" if self.plan.collection.base is not None else self.plan.labels[0]
            notes.append(f"Copied from {origin}, not being alike in all models: {some_of(copied)}")
        return tuple(notes)

    def cuts(self, crew: Crew = HERE) -> tuple[Cut, ...] | None:
        """Where TIES trims each member over all its tensors together, as its paper does; None for other recipes."""
        recipe = self.plan.recipe
        if recipe.method is not MergeMethod.TIES or recipe.convention is not Convention.PAPER or recipe.density >= 1:
            return None

        def slabs(one: NetworkTensor) -> Iterator[Tensor]:
            with self._updates(one) as updates:
                yield from updates.slabs()

        return trimmed_over(self.plan, [one for one in self.tensors if one.merged], slabs, crew)

    def formed(
        self, tensors: Sequence[NetworkTensor], cuts: Sequence[Cut] | None, crew: Crew = HERE
    ) -> Iterator[Formed]:
        """These tensors in order, each with its pieces, formed by `crew`; the next ones are formed meanwhile."""
        return formed(self.plan, tensors, lambda one, sums: self.pieces(one, cuts=cuts, sums=sums), cuts, crew)

    def pieces(self, one: NetworkTensor, *, cuts: Sequence[Cut] | None, sums: Sums | None = None) -> Iterator[Tensor]:
        """The numbers of a tensor in row order, in its own type; what is merged is added to `sums`."""
        if not one.merged:
            yield from self._copied(one)
            return
        sums = sums or Sums(len(self.plan.members), prod(one.shape))
        with self._updates(one) as updates:
            yield from merged_pieces(self.plan.recipe, updates, self.plan.labels, cuts=cuts, sums=sums)

    def measured(self, one: NetworkTensor, sums: Sums) -> MergedLayer | None:
        """The distances of a layer from the sums of its pieces; None of what is no layer."""
        return None if one.key is None else sums.layer(one.key, scale=self.plan.recipe.scale)

    def _updates(self, one: NetworkTensor) -> _Opened:
        return _Opened(self, one)

    def held(self, one: NetworkTensor) -> HeldTensor:
        """A tensor that is no layer, of all members about the base."""
        members = [
            tensors.read(names[unwrapped(one.name)], (1, prod(one.shape)))
            for tensors, names in zip(self._members, self._names, strict=True)
        ]
        base = self._stored.read(one.name, (1, prod(one.shape))) if self.plan.collection.base is not None else None
        return HeldTensor(one.name, members, base)

    @cached_property
    def _unchosen(self) -> frozenset[str]:
        """Stored names of layers that the plan does not merge."""
        chosen = {key.name for key in self.plan.layers}
        source = open_source(self.template)
        rest = [key for key in self.plan.collection.layers if key.name not in chosen and source.find(key.name)]
        assert isinstance(source, Portable) or not rest
        return frozenset(source.stored_as(key.name)[0] for key in rest) if isinstance(source, Portable) else frozenset()

    def _everywhere(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether all members have a tensor of that name and shape in floating point."""
        plain = unwrapped(name)
        for tensors, names in zip(self._members, self._names, strict=True):
            span = tensors.spans.get(names.get(plain, ""))
            if span is None or span.shape != shape or span.dtype not in FLOATS or not prod(shape):
                return False
        return True

    def _copied(self, one: NetworkTensor) -> Iterator[Tensor]:
        numbers = prod(one.shape)
        rows = one.shape[0] if len(one.shape) > 1 and one.shape[0] else 1
        view = (rows, numbers // rows)
        step = max(1, _PIECE // max(view[1], 1))
        for start in range(0, rows, step):
            yield self._stored.read(one.name, view, (start, min(start + step, rows)))


class _Opened:
    """The updates of one tensor for as long as a `with` block runs."""

    def __init__(self, network: Network, one: NetworkTensor) -> None:
        self._network, self._one, self._stack = network, one, ExitStack()

    def __enter__(self) -> AnyUpdates:
        plan, key = self._network.plan, self._one.key
        if key is None:
            return self._network.held(self._one)
        return self._stack.enter_context(open_updates(plan.collection, plan.members, key, budget=plan.budget))

    def __exit__(self, *stop: object) -> None:
        self._stack.close()


def _stored_tensors(ref: ModelRef) -> Tensors:
    if on_hub(ref):
        from uws_core.sources.hub import hub

        return hub.tensors_at(ref)
    return (pickled.tensors_at if ref.pickled else tensors_at)(Path(ref.repo), ref.file)
