"""What a pass costs before it starts, and how fast this machine is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a machine does what a pass is made of; `measured` is False where these are a modest machine's.

    `bytes_per_second` of reading files, `steps_per_second` multiply-adds of float32 products, `entries_per_second`
    weights taken through the sums around the products, `seconds_per_read` to find and open one tensor of one file.
    """

    bytes_per_second: float = 400e6
    steps_per_second: float = 2e10
    entries_per_second: float = 2e8
    seconds_per_read: float = 4e-4
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """What a scan takes: `layers`, `bytes` to read, peak `memory` in bytes beyond the imports, `seconds`, about.

    `stored` are the bytes of the results in the store: 8 n^2 a layer, and a little. `far` are the bytes that the Hub
    must send; their time is part of `seconds`.
    """

    layers: int
    bytes: int
    memory: int
    seconds: float
    far: int = 0
    stored: int = 0


def result_bytes(layers: int, *, n: int) -> int:
    """The bytes that the Grams of so many layers of `n` models take in the store: n x n in float64, and `n` rows."""
    # Nine numbers and a name a model, and the file's own head; 40 models were measured at 17 kB.
    return layers * (8 * n * n + 90 * n + 1000)
