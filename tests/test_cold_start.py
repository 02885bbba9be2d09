"""A server nobody has visited: pages opened at once, and what the first page needs."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sessions import ROOT, cold_server, visit

PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))

# The imports of the entry and of every page, each in a thread of its own, all at once.
AT_ONCE = """
import ast, sys, threading
from pathlib import Path
import streamlit
sys.setswitchinterval(0.0005)
problems, codes = [], []
for path in [Path("app.py"), *sorted(Path("pages").glob("*.py"))]:
    body = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    codes.append((path, compile(ast.Module(body, []), str(path), "exec")))
start = threading.Barrier(len(codes))
def load(path, code):
    start.wait()
    try:
        exec(code, {})
    except Exception as error:
        problems.append(f"{path}: {type(error).__name__}: {error}")
threads = [threading.Thread(target=load, args=one) for one in codes]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(problems)
"""


def test_pages_imported_by_threads_at_once_all_load():
    done = subprocess.run([sys.executable, "-c", AT_ONCE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.alone
def test_every_page_of_a_new_server_opens_at_once(tmp_path: Path):
    with cold_server(tmp_path) as url, ThreadPoolExecutor(len(PAGES)) as visitors:
        visits = list(visitors.map(lambda page: visit(url, page), PAGES))
    assert [problem for one in visits for problem in one.exceptions] == []
    assert [one.titles[-1].lower() for one in visits] == PAGES
