"""An app with a password shows nothing before it is given."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from uws_core.ui import password

APP = str(Path(__file__).parents[2] / "app.py")


def open_app() -> AppTest:
    return AppTest.from_file(APP, default_timeout=60).run()


@pytest.fixture
def protected(monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv(password.VARIABLE, "open sesame")
    monkeypatch.setattr(password, "_WAIT_SECONDS", 0.0)
    return open_app()


def test_nothing_is_shown_before_the_password(protected: AppTest):
    assert not protected.exception
    assert [field.label for field in protected.text_input] == ["Password"]
    assert not protected.sidebar.children


def test_a_wrong_password_opens_nothing(protected: AppTest):
    protected.text_input[0].set_value("open barley").run()
    assert [error.value for error in protected.error] == ["Wrong password"]
    assert not protected.sidebar.children


def test_the_password_opens_the_app_for_this_session(protected: AppTest):
    protected.text_input[0].set_value("open sesame").run()
    assert not protected.exception
    assert protected.sidebar.children
    assert not [field for field in protected.text_input if field.label == "Password"]


def test_a_page_opened_by_address_asks_first(protected: AppTest):
    protected.switch_page("pages/spectrum.py").run()
    assert not protected.sidebar.children
    assert [field.label for field in protected.text_input] == ["Password"]


def test_without_a_password_the_app_opens(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(password.VARIABLE, raising=False)
    assert open_app().sidebar.children
