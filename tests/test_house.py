"""The structure of the project: imports go down one staircase, pages start with their guard, words are standard."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import uws_core as uws

ROOT = Path(__file__).parents[1]

FLOORS = {
    8: ("app", "pages", "__init__", "__main__"),
    7: ("ui", "cli"),
    6: ("reporting", "use", "notebook"),
    5: ("run", "jobs", "export"),
    4: ("collection", "passes", "cluster"),
    3: ("sources", "analysis", "frames", "answers", "charts", "zoo"),
    2: ("store",),
    1: ("nouns",),
    0: ("errors",),
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
# The pure rooms touch no weights and no files; only floor 7 and above know the web.
PURE = {"nouns", "analysis", "frames"}
HEAVY = {"torch", "safetensors", "pathlib", "os"}
NO_ROOMS = {"common", "utils", "helpers"}
STORY = (
    "collect",
    "architectures",
    "gram",
    "side_gram",
    "factors",
    "scan",
    "spectrum",
    "null_band",
    "held_out",
    "shared_angles",
    "model_angles",
    "lineage",
    "independence",
    "storage",
    "report",
    "compress",
    "open_compressed",
    "rebuild",
    "join",
    "leave",
    "merge",
    "adapt",
    "serving",
)


# Words that say nothing about what a parameter is; CONTRIBUTING.md has the glossary.
BANNED_PARAMETERS = {
    "asked", "crowding", "errand", "found", "kin", "lanes", "matter", "place", "said", "seen", "shelf", "supply", "told"
}  # fmt: skip


def violations(path: str, source: str) -> list[str]:
    """Returns what a file at `path` (relative to the root, posix form) breaks of the rules."""
    tree = ast.parse(source)
    room = _room(path)
    broken = [f"no room or file is called {word}" for word in Path(path).with_suffix("").parts if word in NO_ROOMS]
    if path.startswith("tests/"):
        return broken
    if room not in FLOOR_OF:
        return [*broken, f"room {room} has no floor"]
    broken += [f"a relative import, in line {node.lineno}" for node in ast.walk(tree) if _relative(node)]
    for module, typing_only in _imports(tree):
        broken += _import_violations(room, module, typing_only=typing_only)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            names = {arg.arg for arg in (*function.args.args, *function.args.kwonlyargs)}
            broken += [f"{function.name} has a parameter called {name}" for name in sorted(names & BANNED_PARAMETERS)]
    return broken + (_guard_violations(path, tree) if room == "pages" else [])


def _room(path: str) -> str:
    parts = Path(path).with_suffix("").parts
    return parts[1] if parts[0] == "uws_core" else parts[0]


def _imports(tree: ast.AST, *, typing_only: bool = False) -> Iterator[tuple[str, bool]]:
    """Every imported module, also inside functions, and whether it is there for the type checker only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = node.module == "uws_core"
            yield from (
                (f"uws_core.{alias.name}" if inside else node.module or ".", typing_only) for alias in node.names
            )
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports(node, typing_only=True)
        else:
            yield from _imports(node, typing_only=typing_only)


def _relative(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.level > 0


def _import_violations(room: str, module: str, *, typing_only: bool) -> list[str]:
    first, *rest = module.split(".")
    broken = []
    if room in PURE and first in HEAVY and not typing_only:
        broken.append(f"{room} imports {first}")
    if first == "streamlit" and FLOOR_OF[room] < 7:
        broken.append(f"{room} imports streamlit")
    if first != "uws_core":
        return broken
    if not rest or (rest[0] in uws.__all__ and rest[0] not in FLOOR_OF):
        return [*broken, "imports the door"]
    target = rest[0]
    if target not in FLOOR_OF:
        return [*broken, f"imports {target}, which has no floor"]
    sideways = FLOOR_OF[target] == FLOOR_OF[room] and target != room
    if FLOOR_OF[target] > FLOOR_OF[room] or sideways:
        broken.append(f"{room} (floor {FLOOR_OF[room]}) imports {target} (floor {FLOOR_OF[target]})")
    return broken


def _guard_violations(path: str, tree: ast.Module) -> list[str]:
    """A page's first statement, or the first of its `main`, is its guard."""
    body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    mains = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    statements = mains[0].body if mains else body
    statements = [node for node in statements if not _is_text(node)]
    guard = f"state.require('{Path(path).stem}')"
    value = getattr(statements[0], "value", None) if statements else None
    if value is None or ast.unparse(value) != guard:
        return [f"the first statement of a page is its guard, {guard}"]
    return []


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def files() -> list[str]:
    """Returns every Python file of the project, relative to the root."""
    paths = [ROOT / "app.py", *ROOT.glob("pages/*.py"), *ROOT.glob("uws_core/**/*.py"), *ROOT.glob("tests/**/*.py")]
    return [path.relative_to(ROOT).as_posix() for path in paths if path.exists()]


def test_every_file_keeps_the_rules():
    broken = {path: violations(path, (ROOT / path).read_text(encoding="utf-8")) for path in files()}
    assert {path: rules for path, rules in broken.items() if rules} == {}


def test_every_room_has_a_floor_and_every_floor_its_rooms():
    rooms = {_room(path) for path in files() if path.startswith("uws_core/")}
    inside = set(FLOOR_OF) - {"app", "pages"}
    assert rooms == inside, f"without a floor: {rooms - inside}; empty: {inside - rooms}"


GUARD = '"""Which?"""\n\nfrom uws_core.ui import state\n\nchosen = state.require("angles")\n'


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        (
            "uws_core/nouns/x.py",
            "def f():\n    from uws_core.store import disk\n",
            "nouns (floor 1) imports store (floor 2)",
        ),
        ("uws_core/charts/x.py", "import uws_core.frames.spectrum\n", "charts (floor 3) imports frames (floor 3)"),
        ("uws_core/run.py", "from streamlit import cache_data\n", "run imports streamlit"),
        ("uws_core/analysis/x.py", "import torch.linalg\n", "analysis imports torch"),
        ("uws_core/ui/x.py", "from uws_core import scan\n", "imports the door"),
        ("uws_core/utils.py", "", "no room or file is called utils"),
        ("uws_core/attic.py", "", "room attic has no floor"),
        ("uws_core/run.py", "def f(told):\n    pass\n", "f has a parameter called told"),
        ("uws_core/run.py", "from .ui import state\n", "a relative import, in line 1"),
        ("pages/angles.py", "import streamlit as st\n\nst.title('x')\n" + GUARD, "its guard"),
        ("pages/angles.py", GUARD.replace("angles", "spectrum"), "its guard"),
        ("pages/angles.py", "def main():\n    x = 1\n", "its guard"),
    ],
)
def test_a_planted_violation_is_found(path: str, source: str, expected: str):
    assert [rule for rule in violations(path, source) if expected in rule], violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("uws_core/nouns/x.py", "if TYPE_CHECKING:\n    from torch import Tensor\n"),
        ("uws_core/sources/x.py", "from uws_core.sources.opening import opened\nimport torch, os\n"),
        ("uws_core/cli/scan.py", "from uws_core.run import scan\n"),
        ("pages/angles.py", GUARD + "st.title('x')\n"),
        ("pages/angles.py", "def main():\n    chosen = state.require('angles')\n"),
    ],
)
def test_what_is_allowed_is_not_found(path: str, source: str):
    assert violations(path, source) == []


def test_the_door_tells_the_story_and_every_name_opens():
    assert tuple(uws.__all__) == STORY
    for name in uws.__all__:
        assert callable(getattr(uws, name)) or isinstance(getattr(uws, name), ModuleType)
        assert getattr(uws, name).__doc__, f"{name} says what it returns"
    with pytest.raises(AttributeError, match=r"'grams'.*collect"):
        _ = uws.grams


def test_the_door_opens_without_loading_the_house():
    look = "import sys, uws_core; print({'torch', 'polars', 'plotly', 'streamlit', 'scipy'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"
