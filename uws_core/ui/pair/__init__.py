"""The pair page: its controls, its data, and what it shows."""
