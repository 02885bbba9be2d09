"""How passes are run, and the memory those of this process may take: `UWS_BUDGET`, which the about page can change."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from uws_core.errors import BudgetError
from uws_core.nouns.cost import BUDGET
from uws_core.nouns.sizes import bytes_from

VARIABLE = "UWS_BUDGET"


def allowed() -> int:
    """The bytes of slabs in memory: `UWS_BUDGET` (such as 1GiB) if set, else 256 MiB.

    Raises:
        BudgetError: `UWS_BUDGET` is no amount of bytes.
    """
    try:
        return bytes_from(os.environ.get(VARIABLE) or str(BUDGET))
    except ValueError as error:
        raise BudgetError(f"{VARIABLE}: {error}") from error


def allow(amount: int) -> None:
    """From now on passes of this process take that many bytes, unless told otherwise."""
    os.environ[VARIABLE] = str(amount)


@dataclass(frozen=True, slots=True)
class Effort:
    """How a pass is run: none of it changes what is computed beyond the stated floor.

    `device` is auto, cpu or cuda; `precision` auto, single or double; `budget` the bytes of slabs in memory,
    those of `UWS_BUDGET` by default.
    """

    device: str = "auto"
    precision: str = "auto"
    budget: int = field(default_factory=allowed)

    @property
    def options(self) -> dict[str, Any]:
        """The same as keywords of a pass."""
        return {"device": self.device, "precision": self.precision, "budget": self.budget}
