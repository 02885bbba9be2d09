"""The lineage page: its controls, its data, and its figures."""
