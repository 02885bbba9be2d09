"""The memory that passes of this server may take: everybody's, like the jobs."""

from __future__ import annotations

from uws_core.errors import BudgetError
from uws_core.nouns.cost import BUDGET
from uws_core.passes.options import ComputeOptions, default_budget, machine_memory, set_default_budget

MIB = 2**20


def compute_options(precision: str = "auto") -> ComputeOptions:
    """How passes of this server run; a `UWS_BUDGET` that is no amount stands for the usual one."""
    try:
        return ComputeOptions(precision=precision)
    except BudgetError:
        return ComputeOptions(precision=precision, budget=BUDGET)


def problem() -> str:
    """What is wrong with `UWS_BUDGET`, if anything."""
    try:
        default_budget()
    except BudgetError as error:
        return f"{error}. Until then 256 MiB are used."
    return ""


def mebibytes() -> int:
    """The budget in whole MiB, at least one."""
    return max(compute_options().budget // MIB, 1)


def most() -> int:
    """The MiB of memory this machine has, or more than any has where it does not tell."""
    there = machine_memory()
    return 2**24 if there is None else max(there // MIB, mebibytes())


def use(mebibytes: int) -> None:
    """What starts from now on takes so many MiB, until the server ends."""
    set_default_budget(mebibytes * MIB)
