"""The evidence page: its controls, its data, and its figures."""
