"""Every page opens, with every collection and with none to show, and says in words what it shows."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.ui.conftest import PAGES, Open, drawn
from uws_core.zoo.demo import DEMOS, PREFIX

# Each page with adapters and with one collection of no base, in turn; fine-tuned models and planted ones are opened on
# every page by the tests below. All pairs, those that are made on demand among them, are for the long run.
TURN = ("scratch", "untrained")
PAIRS = [
    pytest.param(page, PREFIX + name, marks=[] if name in ("lora", TURN[place % 2]) else pytest.mark.slow)
    for place, page in enumerate(PAGES)
    for name in DEMOS
]

# Half of the layers of a block: more than one, and a quarter of the work.
SOME = ["blocks.0.attn.*"]


def answer(app: AppTest) -> str:
    """The answer line: the first thing under the question."""
    assert not app.exception, [each.stack_trace for each in app.exception]
    return next((each.value for each in app.subheader), "")


def chosen(app: AppTest) -> str:
    """The line of state in the sidebar: numbers of chosen models and layers."""
    assert not app.exception, [each.stack_trace for each in app.exception]
    return "\n".join(each.value for each in app.sidebar.caption)


def told(app: AppTest) -> str:
    """Everything the page says, for what stands nowhere in particular."""
    assert not app.exception, [each.stack_trace for each in app.exception]
    return "\n".join(each.value for each in (*app.markdown, *app.caption))


@pytest.mark.parametrize(("page", "collection"), PAIRS)
def test_every_page_opens_with_every_collection(open_page: Open, page: str, collection: str) -> None:
    # As few draws as a test at 5 % needs, and some layers: here it is asked whether the page opens. All layers of the
    # fine-tuned models are opened on every page by the test of hostile addresses.
    app = open_page(page, c=collection, draws="19", l=SOME)
    # An answer, or what stands in its way with a way out.
    assert answer(app) or [each.key for each in app.button if str(each.key).startswith("way.")]
    assert app.title[0].value.lower() == page
    assert app.sidebar.selectbox[0].value == collection
    assert "of 40 models" in app.sidebar.caption[0].value


def test_an_address_that_names_nothing_known_says_so_until_another_collection_is_chosen(open_page: Open) -> None:
    app = open_page("collection", c="folder:gone")
    assert "opened here: folder:gone. Shown instead: 40 fine" in app.warning[0].value.replace("\\", "")
    app.sidebar.selectbox[0].set_value("demo:noise").run()
    assert not app.warning


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("members", [["task=prime", "kind=inputs"], ["task=prime", "seed=0"]], ids=["none", "one"])
def test_every_page_opens_with_too_few_models(open_page: Open, page: str, members: list[str]) -> None:
    app = open_page(page, c="demo:finetuned", m=members)
    assert app.title
    assert "of 40 models" in app.sidebar.caption[0].value
    assert "40 of 40" not in app.sidebar.caption[0].value
    assert told(app)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_on_an_empty_store(
    open_page: Open, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWS_CACHE", str(tmp_path / "empty"))
    assert answer(open_page(page, c="demo:planted"))


def test_a_choice_that_is_too_small_says_so_and_gets_out(open_page: Open) -> None:
    app = open_page("spectrum", c="demo:finetuned", m=["task=prime", "seed=0"])
    assert "needs at least two models; 1 are chosen" in told(app).replace("\\", "")
    app.button(key="way.Choose all models").click().run()
    assert "these models" in answer(app)
    assert "40 of 40 models" in chosen(app)


def test_the_first_visit_lands_on_the_spectrum_with_its_figures(open_page: Open) -> None:
    app = open_page()
    assert app.title[0].value == "Spectrum"
    assert "these models" in answer(app)
    assert "40 of 40 models" in chosen(app)
    assert len(drawn(app)) == 3
    assert app.query_params["c"] == "demo:finetuned"


def test_chance_and_structure_are_told_apart(open_page: Open) -> None:
    assert "No more than chance" in answer(open_page("spectrum", c="demo:untrained", layer="mean", l=SOME))
    planted = open_page("spectrum", c="demo:planted")
    assert "No more than chance" not in answer(planted)
    assert {each.label: each.value for each in planted.metric}["Shared directions"] == "6"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layer": "blocks.2.attn.q.weight"}, "in `2.attn.q`"),
        ({"layer": "sum", "l": SOME}, "in these layers together"),
        ({"layer": "mean", "l": SOME}, "Beyond chance in "),
        ({"layer": "each", "l": SOME}, "Beyond chance in "),
        ({"about": "base"}, "changed in their base"),
        ({"about": "zero"}, "weights with their mean"),
        ({"about": "prime-0"}, "apart from `prime-0`"),
        ({"unit": "1"}, "at equal norms"),
        ({"null": "gaussian"}, "noise of equal strengths"),
        ({"null": "none"}, "what distinguishes these models."),
        ({"share": "0.5"}, "carry 50 %"),
        ({"m": ["task=prime", "task=parity"]}, "eyond chance"),
        ({"l": ["blocks.1.*"]}, "in `1.attn.k`"),
        ({"m": ["task=prime"]}, "4 models give at most 3 directions"),
    ],
)
def test_what_is_chosen_is_answered(open_page: Open, change: dict[str, str | list[str]], says: str) -> None:
    usual = answer(open_page("spectrum", c="demo:finetuned"))
    changed = answer(open_page("spectrum", c="demo:finetuned", **change))
    assert says in changed
    assert changed != usual


def test_widgets_lead_and_the_address_follows(open_page: Open) -> None:
    app = open_page("spectrum")
    app.sidebar.multiselect[0].set_value(["task=prime", "task=parity"]).run()
    assert "8 of 40 models" in chosen(app)
    next(box for box in app.main.selectbox if box.label == "Layer").set_value("sum").run()
    assert app.query_params["m"] == ["task=prime", "task=parity"]
    assert app.query_params["layer"] == "sum"
    again = open_page("spectrum", **app.query_params)
    assert answer(again) == answer(app)


def test_another_collection_keeps_what_it_also_has(open_page: Open) -> None:
    app = open_page(
        "spectrum", c="demo:finetuned", layer="blocks.2.attn.q.weight", m=["task=prime", "task=parity"], about="base"
    )
    app.sidebar.selectbox[0].set_value("demo:untrained").run()
    assert "in `2.attn.q`" in answer(app)
    assert "8 of 40 models" in chosen(app)
    assert "about" not in app.query_params


@pytest.mark.parametrize("page", PAGES)
def test_a_hostile_address_gives_clean_defaults_and_all_is_explained(open_page: Open, page: str) -> None:
    nasty = {"c": "../../etc", "k": "NaN", "layer": "x", "m": ["rows:9-1", "<b>"], "share": "1e999", "evil": "1"}
    app = open_page(page, **nasty)
    assert answer(app)
    assert app.query_params["c"] == "demo:finetuned"
    assert not {"k", "m", "share", "evil"} & set(app.query_params)
    assert [each.label for each in app.metric if not each.help] == []
    held = app.session_state.to_dict()
    # What Streamlit shows of a component's own state cannot be pickled (1.67); below it is a dict of a click or a drag.
    ours = {key: value for key, value in held.items() if not str(key).startswith(("figure.", "live.", "plotly"))}
    assert pickle.dumps(ours)


def test_the_share_goes_along_from_page_to_page(open_page: Open) -> None:
    app = open_page("spectrum", c="demo:untrained", share="0.7")
    for page in ("evidence", "spectrum"):
        app.switch_page(f"pages/{page}.py").run()
        # The harness gives what it was told as a list, and what the app wrote as a text.
        assert app.query_params["share"] in ("0.7", ["0.7"]), page


def test_everything_chosen_goes_along_to_another_page(open_page: Open) -> None:
    app = open_page("spectrum", c="demo:untrained", m=["task=prime", "task=parity"], layer="sum")
    app.switch_page("pages/collection.py").run()
    assert "8 chosen models" in answer(app)
    app.switch_page("pages/spectrum.py").run()
    assert "these layers together" in answer(app)
    assert "8 of 40 models" in chosen(app)


def test_an_adapters_factors_are_shown_with_a_warning_and_never_pooled(open_page: Open) -> None:
    app = open_page("spectrum", c="demo:lora", l=["blocks.0.attn.q.weight:A"])
    assert "defined only up to an invertible matrix" in told(app)
    both = ["blocks.0.attn.*"]
    assert "defined only up to" not in told(open_page("spectrum", c="demo:lora", l=both, layer="mean"))
    pooled = answer(open_page("spectrum", c="demo:lora", l=both, layer="sum"))
    assert "these layers together" in pooled
    one = open_page("spectrum", c="demo:lora", l=["blocks.0.attn.q.weight*"], layer="sum")
    assert "in `0.attn.q`" in answer(one)
