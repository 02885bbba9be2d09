"""Recognises the files of one model that was split over processes, by the ranks in their names.

Files of pipeline stages hold different layers and are read together. Files of tensor-parallel ranks hold slices of the
same layers along an axis that depends on the program, so they are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

# Words before the number of a process, or of one of its files.
_RANK: Final = re.compile(
    r"(?<![a-z])(ranks?|consolidated|tp|pp|mp|ep|node|world_size|part|shard|stage|split|device|gpu)([-_.]*)(\d+)(?![a-z])",
    re.IGNORECASE,
)
# DeepSeek's `model0-mp2`: the rank stands before the number of ranks.
_OF_RANKS: Final = re.compile(r"(\d+)(-mp)(\d+)", re.IGNORECASE)
# Shards have five digits and are joined elsewhere.
_OF: Final = re.compile(r"(?<!\d)(\d{1,4})([-_]of[-_])(\d{1,4})(?!\d)", re.IGNORECASE)
# These name parts of a model in some folders and models, or sizes of an update, in others.
_WEAK: Final = frozenset({"part", "shard", "stage", "split", "node", "device", "gpu"})
HOW_TO_JOIN: Final = "join them with the program that split them, and give the joined model a folder of its own"


def families(names: Iterable[str], *, is_model: bool = False) -> Mapping[str, tuple[str, ...]]:
    """Files that are parts of one model, by their common name with `*` for the ranks.

    Two or more whose ranks count up from 0, or from 1 where the name tells of how many. With `is_model` the folder
    holds one model, so that `part1`, `part2` are parts as well.
    """
    found: dict[str, dict[str, tuple[tuple[str, int], ...]]] = {}
    for name in names:
        pattern, ranks = _pattern(name)
        if ranks:
            found.setdefault(pattern, {})[name] = ranks
    return {
        pattern: tuple(sorted(members, key=lambda name: members[name]))
        for pattern, members in found.items()
        if len(members) > 1 and _counts_up(list(members.values()), is_model=is_model)
    }


def family_reason(members: Sequence[str]) -> str:
    """Why the files of one family are no models."""
    return f"{len(members)} parts of one model ({members[0]} to {members[-1]}), no model each; {HOW_TO_JOIN}"


def _pattern(name: str) -> tuple[str, tuple[tuple[str, int], ...]]:
    """A name with `*` for its ranks, and the ranks with the word before each."""
    path = PurePosixPath(name)
    ranks: list[tuple[str, int]] = []

    def of(match: re.Match[str]) -> str:
        ranks.append(("of", int(match[1])))
        return f"*{match[2]}{match[3]}"

    def ranked(match: re.Match[str]) -> str:
        ranks.append((match[1].lower(), int(match[3])))
        return f"{match[1]}{match[2]}*"

    text = path.name
    for rule in (_OF_RANKS, _OF):
        text, count = rule.subn(of, text)
        if count:
            return path.with_name(text).as_posix(), tuple(ranks)
    return path.with_name(_RANK.sub(ranked, text)).as_posix(), tuple(ranks)


def _counts_up(members: Sequence[tuple[tuple[str, int], ...]], *, is_model: bool) -> bool:
    """Whether the ranks that differ are those of processes, all of them there."""
    columns = [
        (ranks[0][0], sorted({number for _, number in ranks}))
        for ranks in zip(*members, strict=True)
        if len({number for _, number in ranks}) > 1
    ]
    if not columns:
        return False
    from_zero = all(numbers == list(range(len(numbers))) for _, numbers in columns)
    from_one = all(numbers == list(range(1, len(numbers) + 1)) for word, numbers in columns)
    if all(word in _WEAK for word, _ in columns):
        return is_model and (from_zero or from_one)
    return from_zero or (from_one and (is_model or all(word == "of" for word, _ in columns)))
