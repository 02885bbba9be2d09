"""The password of an app that other machines can reach."""

from __future__ import annotations

import hmac
import os
import time

import streamlit as st

VARIABLE = "UWS_PASSWORD"
_PASSED = "password.passed"
# A wrong password costs a second, so guessing one of eight letters takes thousands of years.
_WAIT_SECONDS = 1.0


def require() -> None:
    """Stops the script with a password field unless `UWS_PASSWORD` is unset or was given in this session."""
    password = os.environ.get(VARIABLE, "")
    if not password or st.session_state.get(_PASSED):
        return
    st.title("Universal weight subspaces")
    given = st.text_input("Password", type="password", key="password.field", help=f"Set by {VARIABLE} on the server")
    if not given:
        st.stop()
    if not hmac.compare_digest(given.encode(), password.encode()):
        time.sleep(_WAIT_SECONDS)
        st.error("Wrong password")
        st.stop()
    st.session_state[_PASSED] = True
    st.rerun()
