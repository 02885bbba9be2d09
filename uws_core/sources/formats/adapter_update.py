"""One module's update in an adapter: its keys, its form and size, and the reason where it is left out.

Everything is decided from names, shapes and the configuration, so that what opens can be read and reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from uws_core.errors import UnsupportedFormat
from uws_core.sources.files.header import FLOATS, NUMBERS, TensorSpan
from uws_core.sources.formats.adapter_config import Settings
from uws_core.sources.formats.adapter_keys import Role
from uws_core.sources.formats.adapter_methods import MOST_ENTRIES, MOST_RANKS, Form, Shape, Sized

# Parts that are one number, and say how large an update is.
_NUMBERS: Final = (Role.ALPHA, Role.SCALAR)
# Types of the matrices: float8 ones are plain numbers, since a scale beside them would be an unknown part.
PARTS: Final = FLOATS | {"F8_E4M3", "F8_E5M2"}


@dataclass(slots=True)
class Update:
    """The keys of one module's update by role, and once they are understood its form and size."""

    module: str
    keys: dict[Role, str] = field(default_factory=dict)
    # The reason why the module cannot be read, known from parts beside the matrices.
    blocked: str = ""
    # The file holds no other adapter, so the configuration beside it is this one's.
    alone: bool = True
    form: Form | None = None
    sized: Sized | None = None

    def shapes(self, spans: Mapping[str, TensorSpan]) -> dict[Role, Shape]:
        """The shapes of the parts as they are stored."""
        return {role: spans[name].shape for role, name in self.keys.items()}

    def problem(
        self, form: Form | None, sized: Sized | None, spans: Mapping[str, TensorSpan], settings: Settings | None
    ) -> str:
        """Why an update of this form and size is not compared, or nothing when it is."""
        if self.blocked:
            return self.blocked
        if self.module.endswith(".base_layer"):
            return f"{self.module} updates a stack of experts, not one matrix"
        parts = [role for role in self.keys if role not in _NUMBERS]
        types = {spans[self.keys[role]].dtype for role in parts}
        if not types <= PARTS:
            return f"the parts of {self.module} are {', '.join(sorted(types))}, not floating point"
        if form is None:
            return f"{self.module} has {', '.join(parts) or 'a scale'} and not what belongs to it, or an empty matrix"
        if sized is None:
            shapes = ", ".join(f"{role} {spans[self.keys[role]].shape}" for role in parts)
            return f"the parts of {self.module} do not fit each other: {shapes}"
        return self._too_large(form, sized) or self._no_scale(sized, spans, settings)

    def _too_large(self, form: Form, sized: Sized) -> str:
        """The reason why the factors are not formed; those stored in the file are no larger than it."""
        what = f"the {form.name} of {self.module} would take"
        if form.stored:
            return ""
        if sized.rank > MOST_RANKS:
            return f"{what} {sized.rank} ranks, at most {MOST_RANKS} are formed"
        if (entries := sum(sized.shape) * sized.rank) > MOST_ENTRIES:
            return f"{what} factors of {entries:,} entries, at most {MOST_ENTRIES:,} are formed"
        return ""

    def _no_scale(self, sized: Sized, spans: Mapping[str, TensorSpan], settings: Settings | None) -> str:
        for role in _NUMBERS:
            span = spans[self.keys[role]] if role in self.keys else None
            if span and (span.dtype not in NUMBERS or math.prod(span.shape) != 1):
                return (
                    f"the {role} of {self.module} is {span.dtype} of shape {span.shape}, a single number was expected"
                )
        if settings is None:
            return ""
        if settings.of_experts(self.module):
            return f"{self.module} updates a stack of experts, not one matrix"
        try:
            if Role.ALPHA in self.keys:
                return ""
            settings.scale(self.module, sized.of)
            expected = settings.expected_rank(self.module)
            # A stack of experts has the rank of all of them together.
            if self.alone and sized.of and expected and sized.of > expected and sized.of % expected == 0:
                return (
                    f"the matrices of {self.module} have rank {sized.of}, {settings.where} says {expected:g}: "
                    "a stack of experts, or a method that is not known here"
                )
        except UnsupportedFormat as error:
            return str(error)
        return ""
