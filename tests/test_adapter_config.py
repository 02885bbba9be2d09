import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.written import pair, reason, written
from uws_core.errors import SourceError, UnreadableFile, UnsupportedFormat
from uws_core.sources.formats.adapter_config import settings_of
from uws_core.sources.opening import open_source

HOSTILE = settings(max_examples=max(300, 5 * settings.default.max_examples))


class TestConfig:
    @pytest.mark.parametrize(
        ("config", "error", "message"),
        [
            ({"peft_type": "PROMPT_TUNING"}, UnsupportedFormat, "PROMPT_TUNING is no low-rank update"),
            ({"peft_type": "LORA", "use_qalora": True}, UnsupportedFormat, "use_qalora"),
            ({"lora_alpha": "many"}, UnreadableFile, "lora_alpha is 'many'"),
            ({"lora_alpha": float("nan")}, UnreadableFile, "lora_alpha is 'nan'"),
            ({"lora_alpha": True}, UnreadableFile, "lora_alpha is 'True'"),
            ({"r": -1}, UnreadableFile, "r is '-1'"),
            ({"alpha_pattern": [1]}, UnreadableFile, "alpha_pattern is no table"),
            ({"target_parameters": {"a": 1}}, UnreadableFile, "target_parameters is no list"),
            (
                {"rank_pattern": {f"{i:0200}": 1 for i in range(6000)}},
                UnreadableFile,
                "1,200,000 characters",
            ),
            ([1], UnreadableFile, "not a JSON object"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, config: object, error: type[Exception], message: str):
        with pytest.raises(error, match=message):
            settings_of(json.dumps(config).encode())

    def test_a_hostile_pattern_is_refused_or_matched_in_time(self, tmp_path: Path):
        up, down = pair(0)
        name = "a" * 40
        tensors = {f"base_model.model.{name}.lora_A.weight": down, f"base_model.model.{name}.lora_B.weight": up}
        config = {"peft_type": "LORA", "r": 2, "alpha_pattern": {"(a+)+b": 1, "(a|a)*(a|aa)*(.*a)*$c": 2}}
        begun = time.perf_counter()
        source = open_source(written(tmp_path, tensors, config))
        assert source.report().scales[0].scale == 4.0
        assert time.perf_counter() - begun < 2

    def test_a_pattern_that_is_not_understood_leaves_out_what_it_could_mean(self, tmp_path: Path):
        up, down = pair(0)
        tensors = {f"base_model.model.{name}.lora_{side}.weight": value for name in ("q_proj", "k_proj")
                   for side, value in (("A", down), ("B", up))}  # fmt: skip
        known = {"peft_type": "LORA", "r": 2, "alpha_pattern": {"k_proj": 4, "(?=x)q_proj": 3}}
        source = open_source(written(tmp_path / "known", tensors, known))
        assert source.low_rank == {"k_proj.weight"}
        assert [one.scale for one in source.report().scales] == [2.0]
        assert "look-around" in reason(source.left_out, "base_model.model.q_proj.lora_A.weight")
        with pytest.raises(UnsupportedFormat, match=r"no update that is understood.*look-around"):
            open_source(written(tmp_path / "none", tensors, known | {"alpha_pattern": {"(?=x)q_proj": 3}}))

    def test_a_rank_that_nothing_tells_leaves_the_module_out(self, tmp_path: Path):
        up, down = pair(0)
        tensors = {
            "base_model.model.a.lokr_w1": up,
            "base_model.model.a.lokr_w2": down,
            "base_model.model.b.lora_A.weight": down,
            "base_model.model.b.lora_B.weight": up,
        }
        source = open_source(written(tmp_path, tensors, {"peft_type": "LOKR"}))
        assert source.low_rank == {"b.weight"}
        assert len(source.report().keys) == 4
        assert "tell its rank" in reason(source.left_out, "base_model.model.a.lokr_w1")

    # An adapter that came through diffusers has a pattern a module; others may be made to take long.
    @pytest.mark.parametrize("kind", ["a name a module", "alike but for the end", "choices", "repeats in repeats"])
    def test_many_patterns_are_matched_or_refused_in_time(self, tmp_path: Path, kind: str):
        up, down = pair(0)
        modules = [f"{'blocks.' * 30}{i}.attn.to_q" for i in range(700)]
        tensors = {f"base_model.model.{module}.lora_{side}.weight": value for module in modules
                   for side, value in (("A", down), ("B", up))}  # fmt: skip
        tables = {
            "a name a module": modules,
            "alike but for the end": [f"{'blocks.' * 30}{i}.attn.to_k" for i in range(2000)],
            "choices": [f"(a|b){'x' * 200}{i}" for i in range(400)],
            "repeats in repeats": [f"(?:(?:(?:.*)*.*)*.*)*{i}" for i in range(200)],
        }
        config = {"peft_type": "LORA", "r": 2, "alpha_pattern": dict.fromkeys(tables[kind], 4)}
        ref = written(tmp_path, tensors, config)
        begun = time.process_time()
        source = open_source(ref)
        scales = [{one.scale for one in source.report().scales} for _ in range(3)]
        # A second or two on one core; before, the first took a minute and the others hours.
        assert time.process_time() - begun < 20
        assert scales == [{2.0} if kind == "a name a module" else {4.0}] * 3
        refused = {note.reason.rpartition(": ")[2] for note in source.left_out}
        endless = kind in ("choices", "repeats in repeats")
        assert refused == ({"the patterns need more than 3,000,000 steps to be matched"} if endless else set())

    def test_a_start_that_moves_the_base_is_said(self):
        settings = settings_of(b'{"init_lora_weights": "pissa_niter_4"}')
        assert "PiSSA" in settings.notes[0]

    def test_updates_of_stacked_experts_are_left_out(self, tmp_path: Path):
        up, down = pair(0)
        tensors = {f"base_model.model.{name}.lora_{side}.weight": value for name in ("mlp.experts", "q")
                   for side, value in (("A", down), ("B", up))}  # fmt: skip
        config = {"peft_type": "LORA", "r": 2, "target_parameters": ["mlp.experts.up_proj"]}
        source = open_source(written(tmp_path, tensors, config))
        assert source.low_rank == {"q.weight"}
        assert "stack of experts" in source.left_out[0].reason

    @HOSTILE
    @given(st.binary(max_size=80) | st.dictionaries(
        st.sampled_from(["r", "lora_alpha", "alpha_pattern", "rank_pattern", "peft_type", "init_lora_weights",
                         "target_parameters", "fan_in_fan_out", "use_dora"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
        | st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=2), max_size=2) | st.lists(st.text()),
    ).map(lambda found: json.dumps(found).encode()))  # fmt: skip
    def test_any_configuration_is_understood_or_refused(self, text: bytes):
        try:
            settings = settings_of(text)
            scale, where = settings.scale("model.layers.0.q", 4)
        except SourceError:
            return
        assert math.isfinite(scale)
        assert where
