"""The angles page: its controls, its data, and what it shows."""
