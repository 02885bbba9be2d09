"""The merge page."""
