"""The memory that passes of this process allow themselves: `UWS_BUDGET`, which the about page can change."""

from __future__ import annotations

import os

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
