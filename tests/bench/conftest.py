"""The browser's benches use the server and the visitor of its tests."""

from tests.e2e.conftest import hub, page, server

__all__ = ["hub", "page", "server"]
