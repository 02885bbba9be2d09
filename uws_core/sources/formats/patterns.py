"""Regular expressions from untrusted files, matched without backtracking.

Python's own engine can be kept busy for years by thirty characters of pattern; here the work is bounded by the lengths
of pattern and text. What this small language does not have (counted repeats, look-around, back-references) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from itertools import groupby
from typing import Final

_CLASSES: Final[dict[str, Callable[[str], bool]]] = {
    "d": str.isdecimal,
    "w": lambda char: char.isalnum() or char == "_",
    "s": str.isspace,
}
_LONGEST: Final = 300
_DEEPEST: Final = 4
# One table's patterns may try this many places in all names together, in about a second. Ten patterns need a thousand
# or so for a name.
_MOST_STEPS: Final = 3_000_000
# So many characters of patterns that are no plain names are understood, in about a second.
_MOST_COMPLEX: Final = 100_000
# A name as most tables hold it, whose dots stand for any character.
_PLAIN: Final = re.compile(r"\^?(?:[\w.-]|\\\.)*\$?")


@dataclass(slots=True)
class _Text:
    """A text, and how many places in it may still be tried."""

    text: str
    steps: int = _MOST_STEPS

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise ValueError(f"the patterns need more than {_MOST_STEPS:,} steps to be matched")


# From a set of positions in a text to the positions where a match that began there can end.
Matcher = Callable[[_Text, Set[int]], Set[int]]


def ends_with(pattern: str, name: str) -> bool:
    """Whether the dotted `name` is, or ends after a dot in, what `pattern` describes: `(.*\\.)?(pattern)$`.

    Raises:
        ValueError: the pattern is too long, too deep, or uses what is not understood here.
    """
    return Patterns([pattern]).first(name) is not None


@dataclass(frozen=True, slots=True)
class _Mask:
    """What plain patterns of one length compare: these stretches of a name's end, or of all of it."""

    stretches: tuple[tuple[int, int], ...]
    whole: bool

    def of(self, end: str) -> tuple[str, ...]:
        return tuple(end[start:stop] for start, stop in self.stretches)


class Patterns:
    """Patterns in the order in which they count, each understood once, and each name matched once."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        # Nearly all patterns are plain names: by length and mask, where the first that reads so stands.
        self._names: dict[int, dict[_Mask, dict[tuple[str, ...], int]]] = {}
        self._others: list[tuple[int, Matcher | ValueError]] = []
        self._found: dict[str, int | None] = {}
        self._steps = _MOST_STEPS
        complex_chars = 0
        for place, pattern in enumerate(self._patterns):
            if len(pattern) <= _LONGEST and _PLAIN.fullmatch(pattern):
                size, mask, read = _plain(pattern)
                self._names.setdefault(size, {}).setdefault(mask, {}).setdefault(read, place)
            else:
                complex_chars += len(pattern)
                too_many = ValueError(f"patterns that are no plain names take more than {_MOST_COMPLEX:,} characters")
                self._others.append((place, too_many if complex_chars > _MOST_COMPLEX else _understood(pattern)))

    def first(self, name: str) -> str | None:
        """The first pattern that the dotted `name` is, or ends after a dot in; None when there is none.

        Raises:
            ValueError: one that comes before it is not understood, or the matching takes too long.
        """
        if name not in self._found:
            self._found[name] = self._place(name)
        place = self._found[name]
        return None if place is None else self._patterns[place]

    def _place(self, name: str) -> int | None:
        if len(name) > 10 * _LONGEST:
            raise ValueError(f"a name of {len(name)} characters is not matched, at most {10 * _LONGEST} are")
        starts = {0} | {i + 1 for i, char in enumerate(name) if char == "."}
        text = _Text(name, self._steps)
        try:
            found = self._named(text, starts)
            for place, matcher in self._others:
                if found is not None and place > found:
                    break
                if isinstance(matcher, ValueError):
                    raise ValueError(str(matcher))
                if len(name) in matcher(text, starts):
                    return place
            return found
        finally:
            self._steps = text.steps

    def _named(self, text: _Text, starts: Set[int]) -> int | None:
        found = list[int]()
        for start in starts:
            end = text.text[start:]
            for mask, places in self._names.get(len(end), {}).items():
                text.spend(len(mask.stretches))
                place = places.get(mask.of(end)) if start == 0 or not mask.whole else None
                if place is not None:
                    found.append(place)
        return min(found, default=None)


def _plain(pattern: str) -> tuple[int, _Mask, tuple[str, ...]]:
    """The length of what a plain pattern fits, what it compares there, and with what."""
    chars = re.findall(r"\\.|.", pattern.removeprefix("^").removesuffix("$"))
    stretches, read, at = list[tuple[int, int]](), list[str](), 0
    for free, group in groupby(chars, key=lambda char: char == "."):
        piece = "".join(char[-1] for char in group)
        if not free:
            stretches.append((at, at + len(piece)))
            read.append(piece)
        at += len(piece)
    return at, _Mask(tuple(stretches), pattern.startswith("^")), tuple(read)


def _understood(pattern: str) -> Matcher | ValueError:
    """The pattern's matcher, or the reason why there is none, raised only when a name is matched."""
    if len(pattern) > _LONGEST:
        return ValueError(f"a pattern of {len(pattern)} characters is not matched, at most {_LONGEST} are")
    try:
        return _Parser(pattern).whole()
    except ValueError as error:
        return error


class _Parser:
    """One pattern, read from left to right."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0

    def whole(self) -> Matcher:
        found = self.either()
        if self.at < len(self.pattern):
            raise self.unsupported("an unopened )")
        return found

    def either(self) -> Matcher:
        options = [self.sequence()]
        while self.take("|"):
            options.append(self.sequence())
        return lambda text, starts: set().union(*(option(text, starts) for option in options))

    def sequence(self) -> Matcher:
        pieces: list[Matcher] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            pieces.append(self.repeated(self.piece()))

        def run(text: _Text, starts: Set[int]) -> Set[int]:
            for piece in pieces:
                if not starts:
                    break
                starts = piece(text, starts)
            return starts

        return run

    def repeated(self, piece: Matcher) -> Matcher:
        kind = next((mark for mark in "*+?" if self.take(mark)), "")
        # A lazy repeat matches the same texts.
        if kind:
            self.take("?")
        if self.at < len(self.pattern) and self.pattern[self.at] in "*+{":
            raise self.unsupported("a counted or doubled repeat")
        if kind == "?":
            return lambda text, starts: starts | piece(text, starts)
        if kind == "*":
            return lambda text, starts: starts | _closure(piece, text, starts)
        return (lambda text, starts: _closure(piece, text, starts)) if kind == "+" else piece

    def piece(self) -> Matcher:
        char = self.next()
        if char == "(":
            return self.group()
        if char == "^":
            return lambda _, starts: starts & {0}
        if char == "$":
            return lambda text, starts: starts & {len(text.text)}
        if char == "[":
            return _one(self.bracket())
        if char == ".":
            return _one(lambda _: True)
        if char == "\\":
            return _one(self.escaped())
        if char in "*+?{":
            raise self.unsupported("a repeat of nothing, or a counted one")
        return _one(char.__eq__)

    def group(self) -> Matcher:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.unsupported("groups inside groups inside groups")
        if self.take("?") and not self.take(":"):
            raise self.unsupported("look-around or a flag")
        found = self.either()
        if not self.take(")"):
            raise self.unsupported("an unclosed (")
        self.depth -= 1
        return found

    def bracket(self) -> Callable[[str], bool]:
        inverted, tests = self.take("^"), list[Callable[[str], bool]]()
        while not self.take("]"):
            low = self.next()
            if low == "\\":
                tests.append(self.escaped())
            elif self.pattern[self.at : self.at + 1] == "-" and self.pattern[self.at + 1 : self.at + 2] not in (
                "]",
                "",
            ):
                self.at += 1
                tests.append(_between(low, self.next()))
            else:
                tests.append(low.__eq__)
        return lambda char: any(test(char) for test in tests) is not inverted

    def escaped(self) -> Callable[[str], bool]:
        char = self.next()
        if char.isalnum() and char.lower() not in _CLASSES:
            raise self.unsupported(f"\\{char}")
        if char.lower() not in _CLASSES:
            return char.__eq__
        test = _CLASSES[char.lower()]
        return test if char.islower() else lambda one: not test(one)

    def take(self, mark: str) -> bool:
        if self.pattern[self.at : self.at + 1] != mark:
            return False
        self.at += 1
        return True

    def next(self) -> str:
        if self.at >= len(self.pattern):
            raise self.unsupported("an end too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def unsupported(self, what: str) -> ValueError:
        return ValueError(f"the pattern {self.pattern[:80]!r} has {what}, which is not understood here")


def _one(test: Callable[[str], bool]) -> Matcher:
    def run(text: _Text, starts: Set[int]) -> Set[int]:
        text.spend(len(starts) + 1)
        whole = text.text
        return {i + 1 for i in starts if i < len(whole) and test(whole[i])}

    return run


def _between(low: str, high: str) -> Callable[[str], bool]:
    return lambda char: low <= char <= high


def _closure(piece: Matcher, text: _Text, starts: Set[int]) -> Set[int]:
    """Positions after one match or more; every position is entered once, so the loop ends."""
    found = set[int]()
    ahead = piece(text, starts)
    while fresh := ahead - found:
        text.spend(len(fresh) + 1)
        found |= fresh
        ahead = piece(text, fresh)
    return found
