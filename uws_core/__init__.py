"""See whether neural networks of one architecture share a low-dimensional weight subspace, and whether that is real.

The public names, in the order of the story: collect models, pass over their weights once, ask the Gram matrices.
Each is loaded when it is first asked for, so importing the package costs nothing.
"""

from importlib import import_module

_ROOMS = {
    "collect": "uws_core.collection",
    "architectures": "uws_core.collection",
    "gram": "uws_core.passes.gram",
    "side_gram": "uws_core.passes.side",
    "factors": "uws_core.passes.factors",
    "scan": "uws_core.run",
    "spectrum": "uws_core.analysis.spectrum",
    "null_band": "uws_core.analysis.nulls",
    "held_out": "uws_core.analysis.heldout",
    "shared_angles": "uws_core.analysis.angles",
    "model_angles": "uws_core.analysis.angle_tables",
    "lineage": "uws_core.analysis.lineage",
    "independence": "uws_core.passes.independence",
    "storage": "uws_core.analysis.accounting",
    "report": "uws_core.reporting.build",
    "compress": "uws_core.use.compress",
    "open_compressed": "uws_core.use.compressed_folder",
    "rebuild": "uws_core.use.rebuild",
    "join": "uws_core.use.join",
    "leave": "uws_core.use.join",
    "merge": "uws_core.use.merge.door",
    "adapt": "uws_core.use.adapt.comparison",
}
# Public as a whole: `uws.serving.attach`.
_MODULES = {"serving": "uws_core.use.serving"}

__all__ = [  # noqa: RUF022 - the order tells the story
    "collect",
    "architectures",
    "gram",
    "side_gram",
    "factors",
    "scan",
    "spectrum",
    "null_band",
    "held_out",
    "shared_angles",
    "model_angles",
    "lineage",
    "independence",
    "storage",
    "report",
    "compress",
    "open_compressed",
    "rebuild",
    "join",
    "leave",
    "merge",
    "adapt",
    "serving",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _ROOMS:
        raise AttributeError(f"module 'uws_core' has no attribute {name!r}; the public names are {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(_ROOMS[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
