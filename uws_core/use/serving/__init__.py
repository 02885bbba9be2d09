"""Serve the members of a compressed folder from one model in memory: `attach` and the handle `Served`."""

from uws_core.use.serving.attach import attach
from uws_core.use.serving.served import Served

__all__ = ["Served", "attach"]
