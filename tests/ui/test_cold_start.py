"""A server nobody has visited: pages opened at once, and what the first page needs."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import uws_core as uws
from tests.sessions import ROOT, cold_server, visit
from uws_core.nouns.gram import Gram
from uws_core.store.codec import from_bytes, gram_key
from uws_core.store.results_file import key_prefix, read_entry, read_results_file
from uws_core.zoo.demo import DEMOS

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

# The start page in a process of its own, and which heavy packages it loaded.
FIRST_PAGE = """
import os, sys, tempfile
os.environ["UWS_CACHE"] = tempfile.mkdtemp() + "/results"
from streamlit import config
from streamlit.testing.v1 import AppTest
config.get_config_options()
config.set_option("runner.enforceSerializableSessionState", False)
app = AppTest.from_file("app.py", default_timeout=60).run()
assert not app.exception, app.exception
heavy = {"torch", "kaleido", "distributed", "huggingface_hub"} & set(sys.modules)
print(app.title[0].value, len(app.get("bidi_component")), heavy)
"""


def test_pages_imported_by_threads_at_once_all_load():
    done = subprocess.run([sys.executable, "-c", AT_ONCE], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_shipped_results_are_those_of_a_fresh_pass():
    collection, shipped = uws.collect("demo:finetuned"), DEMOS["finetuned"].results
    assert shipped is not None
    # Otherwise: make shipped-results
    results = read_results_file(shipped)
    assert results.provenance["fingerprint"] == collection.fingerprint
    assert len(results.entries) == len(collection.layers)
    for layer in collection.layers[::4]:
        raw = read_entry(results, gram_key(collection, layer).removeprefix(key_prefix(collection.fingerprint)))
        assert raw is not None
        kept, fresh = from_bytes(Gram, raw), uws.gram(collection, layer)
        np.testing.assert_allclose(kept.values, fresh.values, rtol=0, atol=1e-6 * np.abs(fresh.values).max())
        blocks = [(gram.blocks.rows, gram.blocks.columns) for gram in (kept, fresh) if gram.blocks is not None]
        for ours, theirs in zip(*blocks, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_the_first_page_loads_no_torch():
    ended = subprocess.run([sys.executable, "-c", FIRST_PAGE], cwd=ROOT, capture_output=True, text=True, check=True)
    title, figures, loaded = ended.stdout.splitlines()[-1].split()
    assert title == "Spectrum"
    assert int(figures) >= 2
    assert loaded == "set()"


def test_every_page_of_a_new_server_opens_at_once(tmp_path: Path):
    # Loading is what is looked at, not the numbers of forty models.
    little = {"c": "demo:planted", "l": "blocks.0.attn.q.weight", "draws": "19"}
    with cold_server(tmp_path) as url, ThreadPoolExecutor(len(PAGES)) as visitors:
        visits = list(visitors.map(lambda page: visit(url, page, **little), PAGES))
    assert [problem for one in visits for problem in one.exceptions] == []
    assert [one.titles[-1].lower() for one in visits] == PAGES
    # The browser is asked for plotly's script before the page's own modules are loaded.
    assert all("uws_plotly" in one.kinds for one in visits)
