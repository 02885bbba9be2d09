"""Nouns to polars frames; `HELP` beside each frame explains its columns."""
