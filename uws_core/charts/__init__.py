"""Frames to plotly figures, for the screen and for print; usable from a notebook."""
