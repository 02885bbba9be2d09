"""Answer lines of all built-in collections: short, without brackets, and as docs/answers.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answer_table import HEAD, Row, rows
from tests.wording import measured
from uws_core.store.results import Store
from uws_core.zoo.demo import DEMOS

DOCUMENT = Path(__file__).parents[1] / "docs" / "answers.md"
# The synthetic collections are in the slow run.
SHIPPED = ("finetuned", "scratch", "untrained", "lora", "planted")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("results")) as opened:
        yield opened


def documented(name: str) -> list[Row]:
    """The rows of one collection in docs/answers.md."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"## demo:{name}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (.*?) \| (.*) \|$", section, flags=re.MULTILINE)
    return [Row(view, line) for view, line in cells if view != "page"]


# Networks from scratch go the way of untrained ones, with other numbers.
QUICK = set(SHIPPED) - {"scratch"}
COLLECTIONS = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in DEMOS]


@pytest.mark.parametrize("name", COLLECTIONS)
def test_lines_are_short_and_as_documented(name: str, store: Store) -> None:
    found, known = list(rows(name, store)), documented(name)
    assert [row.view for row in found] == [row.view for row in known]
    for row, other in zip(found, known, strict=True):
        assert measured(row.line).short, (row, measured(row.line))
        assert NUMBER.sub("0", row.line) == NUMBER.sub("0", other.line)
        # Another processor rounds the last digit differently.
        numbers = [float(number) for number in NUMBER.findall(row.line)]
        assert numbers == pytest.approx([float(number) for number in NUMBER.findall(other.line)], rel=0.1, abs=0.02)


def test_the_document_names_its_command_and_every_collection() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.startswith(HEAD)
    assert re.findall(r"^## demo:(.*)$", text, flags=re.MULTILINE) == list(DEMOS)


@pytest.mark.parametrize(
    ("line", "words", "numbers", "brackets"),
    [
        ("In `blocks.2.q`, 9 directions carry 90 % of it; noise needs 35.", 11, 3, 0),
        ("A mean of 0.5 (z = -1.2e-3).", 7, 2, 2),
        ("p90 of x2 is no number.", 6, 0, 0),
    ],
)
def test_words_numbers_and_brackets_are_counted(line: str, words: int, numbers: int, brackets: int) -> None:
    counts = measured(line)
    assert (counts.words, counts.numbers, counts.brackets) == (words, numbers, brackets)
