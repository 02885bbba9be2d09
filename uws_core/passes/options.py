"""How a pass runs: device, precision, memory budget and progress report; the default budget is `UWS_BUDGET`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Required, TypedDict

from uws_core.errors import BudgetError
from uws_core.nouns.cost import BUDGET, bytes_from, bytes_text
from uws_core.nouns.gram import Axis, Members
from uws_core.nouns.models import LayerKey

VARIABLE = "UWS_BUDGET"

# Called with the fraction done, 0 to 1, and a message; raises Cancelled to stop the pass.
Report = Callable[[float, str], None]


def no_report(fraction: float, message: str) -> None:
    """A report that ignores progress."""


def default_budget() -> int:
    """The bytes of slabs in memory: `UWS_BUDGET` (such as 1GiB) if set, else 256 MiB.

    Raises:
        BudgetError: `UWS_BUDGET` is no amount of bytes, or more than this machine has.
    """
    try:
        return checked_budget(bytes_from(os.environ.get(VARIABLE) or str(BUDGET)))
    except (ValueError, BudgetError) as error:
        raise BudgetError(f"{VARIABLE}: {error}") from error


def set_default_budget(amount: int) -> None:
    """Makes `amount` bytes the default budget of this process."""
    os.environ[VARIABLE] = str(amount)


def checked_budget(budget: int) -> int:
    """The budget, if this machine has so much memory.

    Raises:
        BudgetError: it has not; the message says how much.
    """
    available = machine_memory()
    if available is not None and budget > available:
        raise BudgetError(
            f"A memory budget of {bytes_text(budget)} is more than the {bytes_text(available)} of this machine; "
            f"the default is {bytes_text(BUDGET)}, and a larger budget does not make scans faster"
        )
    return budget


def machine_memory() -> int | None:
    """The bytes of memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


@contextmanager
def budget_error_if_out_of_memory(layer: LayerKey) -> Iterator[None]:
    """Turns a failed allocation during a pass over `layer` into an error that says what to do.

    Raises:
        BudgetError: the system has no memory left.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch reports a failed allocation as a plain RuntimeError.
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        raise BudgetError(
            f"{layer.name}: the system has no memory left; lower the budget, choose fewer models, or close other "
            f"programs ({str(error) or type(error).__name__})"
        ) from error


class DeviceKeywords(TypedDict, total=False):
    """Keywords of a public pass that always computes in the precision it states."""

    device: str
    budget: int
    report: Report | None


class ComputeKeywords(DeviceKeywords, total=False):
    """Keywords of a public pass; see `ComputeOptions`. The default budget is 256 MiB."""

    precision: str


class SideKeywords(TypedDict, total=False):
    """The side Gram to compute: see `passes.side.side_gram`."""

    axis: Required[Axis | str]
    members: Members
    about: str
    unit: bool


class FactorsKeywords(TypedDict, total=False):
    """The factors to compute: see `passes.factors.factors`."""

    kept: int
    members: Members
    about: str
    with_base: bool


@dataclass(frozen=True, slots=True)
class ComputeOptions:
    """How a pass runs; no option changes a number by more than the stated floor.

    `device` is auto, cpu, cuda or cuda:1; `precision` auto, single or double; `budget` the bytes of slabs in memory,
    `UWS_BUDGET` by default; `report` is called with the fraction done and a message, and may raise Cancelled.
    """

    device: str = "auto"
    precision: str = "auto"
    budget: int = field(default_factory=default_budget)
    report: Report = no_report

    @classmethod
    def of(cls, keywords: DeviceKeywords) -> ComputeOptions:
        """The options of a public pass from its keywords.

        Raises:
            TypeError: an unknown keyword.
        """
        given = {"budget": BUDGET, **keywords}
        return cls(**{**given, "report": given.get("report") or no_report})  # type: ignore[arg-type]

    @property
    def keywords(self) -> ComputeKeywords:
        """The options as keywords of a public pass."""
        return {"device": self.device, "precision": self.precision, "budget": self.budget, "report": self.report}
