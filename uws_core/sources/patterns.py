"""Regular expressions out of strangers' files, matched without backtracking.

Python's own engine can be kept busy for years by thirty characters of pattern; here the work is bounded by the lengths
of pattern and text. What this small language does not have (counted repeats, look-around, back-references) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Final

# From a set of positions in a text to the positions where a match that began there can end.
Matcher = Callable[[str, Set[int]], Set[int]]
_CLASSES: Final[dict[str, Callable[[str], bool]]] = {
    "d": str.isdecimal,
    "w": lambda char: char.isalnum() or char == "_",
    "s": str.isspace,
}
_LONGEST: Final = 300
_DEEPEST: Final = 4


def ends_with(pattern: str, name: str) -> bool:
    """Whether the dotted `name` is, or ends after a dot in, what `pattern` describes: `(.*\\.)?(pattern)$`.

    Raises:
        ValueError: the pattern is too long, too deep, or uses what is not understood here.
    """
    if len(pattern) > _LONGEST or len(name) > 10 * _LONGEST:
        raise ValueError(f"a pattern of {len(pattern)} characters is not matched, at most {_LONGEST} are")
    starts = {0} | {i + 1 for i, char in enumerate(name) if char == "."}
    return len(name) in _Parser(pattern).whole()(name, starts)


class _Parser:
    """One pattern, read from left to right."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0

    def whole(self) -> Matcher:
        found = self.either()
        if self.at < len(self.pattern):
            raise self.strange("an unopened )")
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

        def run(text: str, starts: Set[int]) -> Set[int]:
            for piece in pieces:
                starts = piece(text, starts)
            return starts

        return run

    def repeated(self, piece: Matcher) -> Matcher:
        kind = next((mark for mark in "*+?" if self.take(mark)), "")
        # A lazy repeat matches the same texts.
        if kind:
            self.take("?")
        if self.at < len(self.pattern) and self.pattern[self.at] in "*+{":
            raise self.strange("a counted or doubled repeat")
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
            return lambda text, starts: starts & {len(text)}
        if char == "[":
            return _one(self.bracket())
        if char == ".":
            return _one(lambda _: True)
        if char == "\\":
            return _one(self.escaped())
        if char in "*+?{":
            raise self.strange("a repeat of nothing, or a counted one")
        return _one(char.__eq__)

    def group(self) -> Matcher:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.strange("groups inside groups inside groups")
        if self.take("?") and not self.take(":"):
            raise self.strange("look-around or a flag")
        found = self.either()
        if not self.take(")"):
            raise self.strange("an unclosed (")
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
            raise self.strange(f"\\{char}")
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
            raise self.strange("an end too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def strange(self, what: str) -> ValueError:
        return ValueError(f"the pattern {self.pattern[:80]!r} has {what}, which is not understood here")


def _one(test: Callable[[str], bool]) -> Matcher:
    return lambda text, starts: {i + 1 for i in starts if i < len(text) and test(text[i])}


def _between(low: str, high: str) -> Callable[[str], bool]:
    return lambda char: low <= char <= high


def _closure(piece: Matcher, text: str, starts: Set[int]) -> Set[int]:
    """Positions after one match or more; every position is entered once, so the loop ends."""
    found: Set[int] = set()
    ahead = piece(text, starts)
    while fresh := ahead - found:
        found = found | fresh
        ahead = piece(text, fresh)
    return found
