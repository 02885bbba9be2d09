"""The house: imports go down one staircase, pages read like pages, and the door holds what it promises."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import uws_core as uws

ROOT = Path(__file__).parents[1]

FLOORS = {
    6: ("app", "pages", "__init__", "__main__"),
    5: ("ui", "commands"),
    4: ("reporting",),
    3: ("run", "jobs", "export"),
    2: ("collection", "passes", "cluster"),
    1: ("sources", "store", "analysis", "frames", "answers", "charts", "zoo"),
    0: ("nouns",),
    -1: ("errors",),
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
# The pure rooms touch no weights and no files; the others leave the web to floor 5 and above.
PURE = {"nouns", "analysis", "frames"}
HEAVY = {"torch", "safetensors", "pathlib", "os"}
NO_ROOMS = {"common", "utils", "helpers"}
STORY = (
    "collect",
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
    "storage",
    "report",
)


def violations(path: str, source: str) -> list[str]:
    """What a file at `path` (from the root, with slashes) does against the rules of the house."""
    tree = ast.parse(source)
    lines = source.count("\n")
    room = _room(path)
    found = [f"{lines} lines, at most {_most_lines(path)}"] if lines > _most_lines(path) else []
    found += [f"no room or file is called {word}" for word in Path(path).with_suffix("").parts if word in NO_ROOMS]
    if path.startswith("tests/"):
        return found
    if room not in FLOOR_OF:
        return [*found, f"room {room} has no floor"]
    found += [f"a relative import, in line {node.lineno}" for node in ast.walk(tree) if _relative(node)]
    for module, typing_only in _imports(tree):
        found += _import_violations(room, module, typing_only=typing_only)
    found += _long_bodies(tree)
    return found + (_page_violations(path, tree) if room == "pages" else [])


def _room(path: str) -> str:
    parts = Path(path).with_suffix("").parts
    return parts[1] if parts[0] == "uws_core" else parts[0]


def _most_lines(path: str) -> int:
    return 60 if path == "app.py" else 120 if path.startswith("pages/") else 300


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
    found = []
    if room in PURE and first in HEAVY and not typing_only:
        found.append(f"{room} imports {first}")
    if first == "streamlit" and FLOOR_OF[room] < 5:
        found.append(f"{room} imports streamlit")
    if first != "uws_core":
        return found
    if not rest or (rest[0] in uws.__all__ and rest[0] not in FLOOR_OF):
        return [*found, "imports the door"]
    target = rest[0]
    if target not in FLOOR_OF:
        return [*found, f"imports {target}, which has no floor"]
    sideways = FLOOR_OF[target] == FLOOR_OF[room] and target != room
    if FLOOR_OF[target] > FLOOR_OF[room] or sideways:
        found.append(f"{room} (floor {FLOOR_OF[room]}) imports {target} (floor {FLOOR_OF[target]})")
    return found


def _long_bodies(tree: ast.AST) -> list[str]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = [(node.name, _body_lines(node)) for node in functions]
    return [f"{name} has a body of {size} lines, at most 30" for name, size in sizes if size > 30]


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _page_violations(path: str, tree: ast.Module) -> list[str]:
    found = [
        f"a page defines {node.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    docstring = 0 if ast.get_docstring(tree) is None else 1
    steps = [node for node in tree.body[docstring:] if not isinstance(node, ast.Import | ast.ImportFrom)]
    guard = f"state.require('{Path(path).stem}')"
    value = getattr(steps[0], "value", None) if steps else None
    if value is None or ast.unparse(value) != guard:
        found.append(f"the first statement of a page is its guard, {guard}")
    return found


def files() -> list[str]:
    """Every Python file of the project, from the root."""
    places = [ROOT / "app.py", *ROOT.glob("pages/*.py"), *ROOT.glob("uws_core/**/*.py"), *ROOT.glob("tests/**/*.py")]
    return [place.relative_to(ROOT).as_posix() for place in places if place.exists()]


@pytest.mark.parametrize("path", files())
def test_every_file_keeps_the_rules(path: str) -> None:
    assert violations(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_every_room_has_a_floor_and_every_floor_its_rooms() -> None:
    rooms = {_room(path) for path in files() if path.startswith("uws_core/")}
    inside = set(FLOOR_OF) - {"app", "pages"}
    assert rooms == inside, f"without a floor: {rooms - inside}; empty: {inside - rooms}"


GUARD = '"""Which?"""\n\nfrom uws_core.ui import state\n\nchosen = state.require("angles")\n'


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("uws_core/nouns/x.py", "from uws_core.store.results import Store\n", "nouns (floor 0) imports store (floor 1)"),
        (
            "uws_core/nouns/x.py",
            "def f():\n    from uws_core import store\n",
            "nouns (floor 0) imports store (floor 1)",
        ),
        ("uws_core/store/x.py", "import uws_core.zoo.demo\n", "store (floor 1) imports zoo (floor 1)"),
        ("uws_core/passes/x.py", "if TYPE_CHECKING:\n    from uws_core.run import scan\n", "imports run (floor 3)"),
        ("uws_core/run.py", "import streamlit as st\n", "run imports streamlit"),
        ("uws_core/charts/x.py", "from streamlit import cache_data\n", "charts imports streamlit"),
        ("uws_core/analysis/x.py", "import torch.linalg\n", "analysis imports torch"),
        ("uws_core/frames/x.py", "from pathlib import Path\n", "frames imports pathlib"),
        ("uws_core/nouns/x.py", "def f():\n    import os\n", "nouns imports os"),
        ("uws_core/run.py", "import uws_core\n", "imports the door"),
        ("uws_core/ui/x.py", "from uws_core import scan\n", "imports the door"),
        ("uws_core/utils.py", "", "no room or file is called utils"),
        ("tests/helpers.py", "", "no room or file is called helpers"),
        ("uws_core/attic.py", "", "room attic has no floor"),
        ("uws_core/run.py", "from uws_core.attic import x\n", "imports attic, which has no floor"),
        ("uws_core/run.py", "x = 1\n" * 301, "301 lines, at most 300"),
        ("tests/test_x.py", "x = 1\n" * 301, "301 lines, at most 300"),
        ("app.py", "x = 1\n" * 61, "61 lines, at most 60"),
        ("pages/angles.py", GUARD + "x = 1\n" * 120, "125 lines, at most 120"),
        ("pages/angles.py", GUARD + "def f():\n    pass\n", "a page defines f"),
        ("pages/angles.py", GUARD + "if chosen:\n    class C:\n        pass\n", "a page defines C"),
        (
            "pages/angles.py",
            "import streamlit as st\n\nst.title('x')\n" + GUARD,
            "the first statement of a page is its guard",
        ),
        ("pages/angles.py", GUARD.replace("angles", "spectrum"), "the first statement of a page is its guard"),
        ("pages/angles.py", "", "the first statement of a page is its guard"),
        ("uws_core/run.py", "def f():\n" + "    x = 1\n" * 31, "f has a body of 31 lines, at most 30"),
        (
            "uws_core/run.py",
            "class A:\n    def f(self):\n" + "        x = 1\n" * 31 + "class B:\n    def f(self):\n        x = 1\n",
            "f has a body of 31 lines, at most 30",
        ),
        ("uws_core/run.py", "from .ui import state\n", "a relative import, in line 1"),
        ("uws_core/ui/x.py", "def f():\n    from . import state\n", "a relative import, in line 2"),
    ],
)
def test_a_planted_violation_is_found(path: str, source: str, expected: str) -> None:
    assert [found for found in violations(path, source) if expected in found], violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("uws_core/nouns/x.py", "if TYPE_CHECKING:\n    from torch import Tensor\n"),
        ("uws_core/sources/x.py", "from uws_core.sources.folder import Folder\nimport torch, os\n"),
        ("uws_core/commands/scan.py", "from uws_core.run import scan\n"),
        ("uws_core/run.py", "from uws_core.store import disk\nfrom uws_core.passes.gram import gram\n"),
        ("uws_core/run.py", 'def f():\n    """Doc.\n' + "\n" * 40 + '    """\n' + "    x = 1\n" * 30),
        ("pages/angles.py", GUARD + "st.title('x')\n"),
        ("pages/angles.py", GUARD.replace("chosen = ", "")),
    ],
)
def test_what_is_allowed_is_not_found(path: str, source: str) -> None:
    assert violations(path, source) == []


def test_the_door_tells_the_story_and_every_name_opens() -> None:
    assert tuple(uws.__all__) == STORY
    for name in uws.__all__:
        assert callable(getattr(uws, name))
        assert getattr(uws, name).__doc__, f"{name} says what it returns"
    with pytest.raises(AttributeError, match=r"'grams'.*collect"):
        _ = uws.grams


def test_the_door_opens_without_loading_the_house() -> None:
    look = "import sys, uws_core; print({'torch', 'polars', 'plotly', 'streamlit', 'scipy'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"
