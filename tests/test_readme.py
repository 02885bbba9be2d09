"""The README's examples run, and what it points to is there."""

import re
import shlex
from pathlib import Path

import pytest

from uws_core.__main__ import parser

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run_and_say_something(number, capsys, results_folder):
    exec(compile(EXAMPLES[number], f"README example {number + 1}", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_there_are_examples():
    assert EXAMPLES


def test_local_links_lead_somewhere():
    missing = [link for link in re.findall(r"\]\(([^)#:]+)\)", TEXT) if not (ROOT / link).exists()]
    assert missing == []


def test_the_two_commands_are_those_of_the_makefile():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    assert {"run", "test", "bench", "soak"} <= set(targets)
    assert set(re.findall(r"make ([a-z]+)", TEXT)) <= set(targets)


def test_every_command_line_is_understood():
    lines = re.findall(r"python -m uws_core (.+)", TEXT)
    assert len(lines) > 5
    for line in lines:
        told = parser().parse_args(shlex.split(line.partition(" > ")[0]))
        assert callable(told.act), line


def test_the_exit_codes_are_those_of_the_program():
    told = re.findall(r"\b(0|1|2|3|130) (?:done|not|stopped)", TEXT.partition("Exit codes:")[2])
    assert told == re.findall(r"\b(0|1|2|3|130) (?:done|not|the command|stopped)", parser().description)
