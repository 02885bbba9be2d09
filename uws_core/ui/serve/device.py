"""Where passes run, told without loading torch only to say so."""

from __future__ import annotations

import sys
from types import ModuleType


def device() -> str:
    """`cpu`, or the name of the CUDA device; `cpu` too while nothing was computed yet."""
    torch = loaded_torch()
    if torch is None or not torch.cuda.is_available():
        return "cpu"
    return str(torch.cuda.get_device_name())


def loaded_torch() -> ModuleType | None:
    """torch when it has been loaded to its end; a job's thread may be in the middle of loading it."""
    torch = sys.modules.get("torch")
    return None if torch is None or getattr(torch.__spec__, "_initializing", False) else torch
