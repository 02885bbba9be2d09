"""The sidebar is drawn while a job's thread loads torch: half a torch is none."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from uws_core.ui import compute


def test_a_torch_that_is_being_loaded_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    half = ModuleType("torch")
    half.__spec__ = ModuleSpec("torch", None)
    half.__spec__._initializing = True
    monkeypatch.setitem(sys.modules, "torch", half)
    assert compute.loaded_torch() is None
    assert compute.device() == "cpu"


def test_no_torch_is_loaded_to_name_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert compute.device() == "cpu"
    assert "torch" not in sys.modules
