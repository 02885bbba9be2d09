"""How passes are run, and the memory those of this process may take: `UWS_BUDGET`, which the about page can change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from uws_core.errors import BudgetError
from uws_core.nouns.cost import BUDGET
from uws_core.nouns.models import LayerKey
from uws_core.nouns.sizes import bytes_from, bytes_text

VARIABLE = "UWS_BUDGET"


def allowed() -> int:
    """The bytes of slabs in memory: `UWS_BUDGET` (such as 1GiB) if set, else 256 MiB.

    Raises:
        BudgetError: `UWS_BUDGET` is no amount of bytes, or more than this machine has.
    """
    try:
        return possible(bytes_from(os.environ.get(VARIABLE) or str(BUDGET)))
    except (ValueError, BudgetError) as error:
        raise BudgetError(f"{VARIABLE}: {error}") from error


def possible(budget: int) -> int:
    """The budget, if this machine has so much memory.

    Raises:
        BudgetError: it has not; the message says how much.
    """
    there = memory()
    if there is not None and budget > there:
        raise BudgetError(
            f"A memory budget of {bytes_text(budget)} is more than the {bytes_text(there)} of this machine; "
            f"the usual one is {bytes_text(BUDGET)}, and more than is needed brings no speed"
        )
    return budget


def memory() -> int | None:
    """The bytes of memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


@contextmanager
def memory_of(layer: LayerKey) -> Iterator[None]:
    """Turns it into an error with a way out where the system has no memory left for a pass over this layer.

    Raises:
        BudgetError: it has not.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # What torch cannot have is a RuntimeError like any other.
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        raise BudgetError(
            f"{layer.name}: the system has no memory left; lower the budget, choose fewer models, or close something "
            f"else ({str(error) or type(error).__name__})"
        ) from error


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
