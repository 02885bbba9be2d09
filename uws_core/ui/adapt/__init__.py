"""The adapt page."""
