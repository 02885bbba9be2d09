"""The reconstruction page: its controls, its data, and its figures."""
