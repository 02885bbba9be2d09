"""Nouns to polars frames; column names and units are told once, beside each frame."""
