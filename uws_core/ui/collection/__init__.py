"""The collection page: its controls, its data, and its figures."""
