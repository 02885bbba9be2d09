"""The compress page."""
