from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.written import model, reason
from uws_core.collection import collect
from uws_core.sources.model_table import parse_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve models of one architecture."""
    place = tmp_path / "runs"
    place.mkdir()
    for i in range(12):
        save_file(model(i), place / f"m{i}.safetensors")
    return place


class TestTable:
    def test_columns_have_one_type_and_gaps_are_none(self, folder: Path):
        (folder / "models.csv").write_text(
            "model,task,seed,loss,good\nm0,parity,1,0.5,true\nm1.safetensors,prime,2,1e-3,FALSE\nm2,,,,\n"
        )
        found = collect(folder)
        assert dict(found.table) == {
            "task": ("parity", "prime", *[None] * 10),
            "seed": (1, 2, *[None] * 10),
            "loss": (0.5, 1e-3, *[None] * 10),
            "good": (True, False, *[None] * 10),
        }

    def test_unknown_names_and_second_rows_are_listed(self, folder: Path):
        (folder / "models.csv").write_text("model,task\nm0,a\nm0,b\nnobody,c\nm1,d,surplus\n")
        found = collect(folder)
        assert found.table["task"][:2] == ("a", "d")
        assert "no model of that name" in reason(found.left_out, "models.csv: nobody")
        assert "second row" in reason(found.left_out, "models.csv: m0")
        assert "beyond the 1 named columns" in reason(found.left_out, "models.csv: m1")

    def test_a_model_left_out_for_its_own_reason_is_no_unknown_name(self, folder: Path):
        (folder / "m0.safetensors").write_bytes(b"bad")
        (folder / "models.csv").write_text("model,task\nm0,a\nm1,b\n")
        assert [note.what for note in collect(folder).left_out] == ["m0", "norm.bias"]

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            (b"", "empty"),
            (b"name,task\nm0,a\n", "first column is called 'name'"),
            (b"model,a,a\nm0,1,2\n", "two have the same"),
            (b"model,a,\nm0,1,2\n", "no name"),
            (b"\xff\xfe\x00", "UTF-8"),
        ],
    )
    def test_a_table_that_cannot_be_read_is_said_and_not_used(self, folder: Path, raw: bytes, message: str):
        (folder / "models.csv").write_bytes(raw)
        found = collect(folder)
        assert len(found) == 12
        assert not found.table
        assert message in reason(found.left_out, "models.csv")

    def test_a_byte_order_mark_and_windows_lines_are_fine(self, folder: Path):
        (folder / "models.csv").write_bytes("\ufeffModel,task\r\nm0,été\r\n".encode())
        assert collect(folder).table["task"][0] == "été"

    @pytest.mark.parametrize(
        ("cells", "values"),
        [
            (["007", "1"], ("007", "1")),
            (["1_0", "1"], ("1_0", "1")),
            (["nan", "1"], ("nan", "1")),
            (["1", "2.5"], (1.0, 2.5)),
            (["-1", "+2"], (-1, 2)),
            (["9" * 30, "1"], (1e30, 1.0)),
            (["yes", "true"], ("yes", "true")),
        ],
    )
    def test_numbers_are_numbers_only_where_nothing_is_lost(self, cells: list[str], values: tuple[object, ...]):
        table = parse_table("model,x\n" + "".join(f"m{i},{cell}\n" for i, cell in enumerate(cells)))
        found = tuple(row[0] for row in table.rows.values())
        assert found == values
        assert [type(value) for value in found] == [type(value) for value in values]

    @given(st.text(max_size=60))
    def test_any_text_is_a_table_or_is_said(self, text: str):
        import csv

        try:
            table = parse_table(text)
        except csv.Error:
            return
        assert all(len(row) == len(table.columns) for row in table.rows.values())
        assert table.columns or table.rows or table.left_out or text.strip().casefold().startswith("model")
