"""The evidence page judges every claim, says what is siblings and what is chance, and why where it cannot tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

from tests.planted import families, noise, spiked
from tests.ui.conftest import Open, drawn
from uws_core.nouns.claims import CLAIMS, KIN
from uws_core.ui import grams
from uws_core.ui.catalogue import catalogue
from uws_core.zoo import synthetic

LAYER = "blocks.0.up.weight"
WITHIN_KIN = CLAIMS["within-kin"].title


def answer(app: AppTest) -> str:
    assert not app.exception, [each.stack_trace for each in app.exception]
    return next((each.value for each in app.subheader), "")


def told(app: AppTest) -> str:
    assert not app.exception, [each.stack_trace for each in app.exception]
    return "\n".join(each.value for each in (*app.markdown, *app.caption)).replace("\\", "")


def claims(app: AppTest) -> dict[str, dict[str, object]]:
    """The table of claims, by claim."""
    frame = pl.from_pandas(app.dataframe[0].value)
    return {row["claim"]: row for row in frame.iter_rows(named=True)}


def verdict(app: AppTest, claim: str) -> str:
    return str(claims(app)[claim]["verdict"]).split(" ", 1)[1]


def kept(open_page: Open, folder: Path, rows: np.ndarray, table: str = "", **params: str) -> AppTest:
    """The page on models with these rows as their one layer, in a folder of their own."""
    folder.mkdir()
    for i, row in enumerate(rows.astype(np.float32)):
        save_file({LAYER: row.reshape(20, -1)}, folder / f"m{i}.safetensors")
    if table:
        (folder / "models.csv").write_text(table)
    return open_page("evidence", c=catalogue().add(str(folder)), draws="19", **params)


@pytest.mark.parametrize(
    ("collection", "params", "says"),
    [
        (
            "demo:finetuned",
            {"group": "task"},
            "Shared mostly among relatives: 8 directions beyond chance in `0.attn.q`; ",
        ),
        # Without a choice it is the first column in words.
        ("demo:finetuned", {}, "Shared mostly among relatives: 8 directions beyond chance"),
        ("demo:finetuned", {"grouped": "by lineage only"}, "relatives: 8 directions beyond chance"),
        ("demo:planted", {}, "Shared, ancestry unknown: 6 directions beyond chance"),
        ("demo:scratch", {}, "Nothing is shared beyond chance"),
        ("demo:untrained", {}, "Nothing is shared beyond chance"),
        ("demo:untrained", {}, "Check first"),
    ],
)
def test_every_collection_is_judged(open_page: Open, collection: str, params: dict[str, str], says: str) -> None:
    app = open_page("evidence", c=collection, l="blocks.0.attn.q.weight", draws="39", **params)
    assert says in answer(app)
    assert set(claims(app)) | set(KIN.values()) == set(CLAIMS)


@pytest.mark.parametrize("collection", ["demo:two-lineages", "demo:shared-init"])
@pytest.mark.parametrize("params", [{"group": "task"}, {}], ids=["task", "default"])
def test_ancestry_is_seen_beside_a_column_that_has_nothing_to_do_with_it(
    open_page: Open, collection: str, params: dict[str, str]
) -> None:
    app = open_page("evidence", c=collection, l="blocks.0.mlp.up.weight", draws="39", **params)
    assert "Shared only among relatives: 1 direction beyond chance" in answer(app)
    # A profile of the common start concentrates noise about the means of tasks too.
    assert verdict(app, "within") in ("holds", "weak")
    assert verdict(app, "within-kin") == "chance"


def test_groups_can_be_those_of_the_lineage_alone_and_the_address_keeps_it(open_page: Open) -> None:
    app = open_page("evidence", c="demo:two-lineages", l="blocks.0.mlp.up.weight", draws="19")
    assert "Shared only among relatives: 1 direction beyond chance" in answer(app)
    assert "within-kin" in claims(app)
    app.segmented_control(key="grouped").set_value("lineage").run()
    assert "Shared only among relatives: 1 direction beyond chance" in answer(app)
    assert "within-kin" not in claims(app)
    again = open_page(
        "evidence", c="demo:two-lineages", l="blocks.0.mlp.up.weight", draws="19", grouped="by lineage only"
    )
    assert answer(again) == answer(app)


def test_a_claim_that_was_not_asked_is_not_offered_and_does_no_harm(open_page: Open) -> None:
    app = open_page("evidence", c="demo:two-lineages", l="blocks.0.mlp.up.weight", draws="19", claim=WITHIN_KIN)
    assert app.selectbox(key="claim").value == "within-kin"
    app.segmented_control(key="grouped").set_value("lineage").run()
    assert app.selectbox(key="claim").value == "concentrated"
    assert WITHIN_KIN not in app.selectbox(key="claim").options
    noise_only = open_page("evidence", c="demo:untrained", l="blocks.0.attn.q.weight", draws="39", claim=WITHIN_KIN)
    assert noise_only.selectbox(key="claim").value == "concentrated"


def test_a_profile_that_all_models_have_is_named(open_page: Open, tmp_path: Path) -> None:
    rows = synthetic.profile(n=20, shapes={LAYER: (20, 40)}, seed=1).layers[LAYER].reshape(20, -1)
    app = kept(open_page, tmp_path / "profile", rows)
    assert "Beyond equal noise, not beyond the common scale of rows in `0.up`; " in answer(app)


def test_both_storage_ratios_are_told(open_page: Open, models: Path) -> None:
    app = open_page("evidence", c=catalogue().add(str(models)), draws="19", layer="blocks.0.up.weight")
    assert "; whole checkpoints " in str(claims(app)["space"]["reason"])


def test_the_same_seed_gives_the_same_table_and_another_does_not(open_page: Open, tmp_path: Path) -> None:
    rows = spiked(12, 400, strengths=(8.0,), seed=1)
    app = kept(open_page, tmp_path / "seeded", rows, seed="5")
    first = claims(app)
    app.number_input(key="seed").set_value(6).run()
    assert claims(app) != first
    app.number_input(key="seed").set_value(5).run()
    assert claims(app) == first


def test_the_chosen_claim_is_told_in_full(open_page: Open, tmp_path: Path) -> None:
    app = kept(open_page, tmp_path / "chosen", spiked(12, 400, strengths=(30.0,), seed=2))
    assert "Bartlett draws" in told(app)
    app.selectbox(key="claim").set_value("saturates").run()
    assert "Roy and Vetterli 2007" in told(app)
    assert "effective rank grows as n^" in told(app)
    # The draws of chance, and the growth with the number of models.
    assert len(drawn(app)) == 2


def test_groups_are_the_ones_of_the_sidebar(open_page: Open, tmp_path: Path) -> None:
    rows = families([4, 4, 4, 4], 400, likeness=0.9, seed=3)
    table = "model,kin\n" + "".join(f"m{i},{'abcd'[i // 4]}\n" for i in range(16))
    app = kept(open_page, tmp_path / "kin", rows, table, group="kin")
    assert verdict(app, "relatives") == "holds"
    assert "4 groups" in str(claims(app)["relatives"]["reason"])
    assert verdict(app, "within") == "chance"
    assert "Shared only among relatives: 3 directions beyond chance in " in answer(app)


def test_without_groups_nothing_is_said_of_ancestry(open_page: Open, tmp_path: Path) -> None:
    app = kept(open_page, tmp_path / "plain", noise(12, 400, seed=4))
    assert verdict(app, "relatives") == "cannot tell"
    assert "no groups are known" in str(claims(app)["relatives"]["reason"])
    assert verdict(app, "concentrated") == "chance"


@pytest.mark.parametrize("count", [2, 3])
def test_few_models_cannot_tell(open_page: Open, tmp_path: Path, count: int) -> None:
    app = kept(open_page, tmp_path / "few", noise(count, 400, seed=5))
    assert verdict(app, "concentrated") == "cannot tell"
    assert f"{count} models give at most" in answer(app)


def test_equal_models_cannot_tell(open_page: Open, tmp_path: Path) -> None:
    app = kept(open_page, tmp_path / "equal", np.repeat(noise(1, 400, seed=6), 8, axis=0))
    assert {verdict(app, claim) for claim in claims(app)} == {"cannot tell"}
    assert "do not differ in this layer" in answer(app)


@pytest.mark.parametrize("column", [["a"] * 8, [f"v{i}" for i in range(8)]], ids=["one value", "all distinct"])
def test_a_column_that_divides_nothing_is_no_group(open_page: Open, tmp_path: Path, column: list[str]) -> None:
    table = "model,kind\n" + "".join(f"m{i},{value}\n" for i, value in enumerate(column))
    app = kept(open_page, tmp_path / "column", noise(8, 400, seed=7), table, group="kind")
    assert verdict(app, "relatives") == "cannot tell"


def test_one_model_is_not_judged(open_page: Open, tmp_path: Path) -> None:
    app = kept(open_page, tmp_path / "one", noise(4, 400, seed=8), m="m1")
    assert "at least two models" in told(app)
    assert not app.dataframe


def test_layers_are_judged_each_and_corrected_together(open_page: Open, models: Path) -> None:
    app = open_page("evidence", c=catalogue().add(str(models)), layer="each", draws="19", group="colour")
    assert "in 2 of 2 layers of 8 models." in answer(app)
    assert app.dataframe[0].value["discoveries"].notna().all()
    app.selectbox(key="claim").set_value("components").run()
    # z by block, the numbers over chance, and all verdicts.
    assert len(drawn(app)) == 3
    layer = next(box for box in app.main.selectbox if box.label == "Layer")
    layer.set_value("blocks.1.up.weight").run()
    assert "in `1.up`" in answer(app)


def test_the_report_is_made_in_the_background_and_waits_to_be_fetched(open_page: Open, models: Path) -> None:
    app = open_page("evidence", c=catalogue().add(str(models)), draws="19", layer="sum")
    app.button(key="report.start").click().run()
    job = next(job for job in grams.jobs().jobs() if job.title.startswith("Report on 2 layers of 8 models"))
    assert grams.jobs().wait(job.key, seconds=60).status.value == "done"
    app.run()
    assert not app.exception
    assert "report.start" not in {button.key for button in app.button}
    assert "Download the report" in {button.proto.label for button in app.get("download_button")}
