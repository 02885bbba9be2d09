import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.written import pair, written
from uws_core.errors import SourceError, UnreadableFile, UnsupportedFormat
from uws_core.sources import open_source
from uws_core.sources.adapter_config import settings_of

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

    def test_a_start_that_moves_the_base_is_said(self):
        settings = settings_of(b'{"init_lora_weights": "pissa_niter_4"}')
        assert "PiSSA" in settings.notes[0]

    def test_updates_of_stacked_experts_are_left_out(self, tmp_path: Path):
        up, down = pair(0)
        tensors = {f"base_model.model.{name}.lora_{side}.weight": value for name in ("mlp.experts", "q")
                   for side, value in (("A", down), ("B", up))}  # fmt: skip
        config = {"peft_type": "LORA", "r": 2, "target_parameters": ["mlp.experts.up_proj"]}
        source = open_source(written(tmp_path, tensors, config))
        assert source.thin == {"q.weight"}
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
