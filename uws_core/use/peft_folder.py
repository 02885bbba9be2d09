"""Folders that PEFT loads: a configuration and its tensors, which appear when they are complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from uws_core.errors import ExportError


def write_peft_folder(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Path:
    """Writes `adapter_model.safetensors` and `adapter_config.json` into a new folder and returns it.

    Raises:
        ExportError: the folder exists, or cannot be written.
    """
    if folder.exists():
        raise ExportError(f"{folder} exists; name another folder, or delete it first")
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, part / "adapter_model.safetensors", metadata={"format": "pt"})
        (part / "adapter_config.json").write_text(json.dumps(dict(config), indent=2, sort_keys=True) + "\n")
        part.rename(folder)
    except OSError as error:
        raise ExportError(f"{folder} cannot be written ({error})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder
