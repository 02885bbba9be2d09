"""The browser's benches use the server and the visitor of its tests."""

from tests.e2e.conftest import page, server

__all__ = ["page", "server"]
