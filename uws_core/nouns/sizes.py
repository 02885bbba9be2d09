"""Amounts of bytes, as people write and read them."""

import re

# No machine holds more.
_MOST = 2**50
# Binary and decimal prefixes; a bare letter (4G) is binary, as in most command lines.
_UNITS = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _UNITS |= {_letter: 1024**_power, f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power}


def bytes_from(text: str) -> int:
    """The number of bytes that `4GiB`, `500 MB`, `2g` or `1048576` stands for.

    Raises:
        ValueError: no such amount.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if not found or found[2] not in _UNITS:
        raise ValueError(f"An amount of bytes such as 4GiB, 500MB or 1048576 was expected; found {text!r}")
    amount = float(found[1]) * _UNITS[found[2]]
    if amount > _MOST:
        raise ValueError(f"An amount of at most {bytes_text(_MOST)} was expected; found {text[:40]!r}")
    return int(amount)


def bytes_text(count: float) -> str:
    """A number of bytes with three digits and a binary unit: `1.50 GiB`."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB" if size < 1000 else f"{size:,.0f} TiB"
