"""Training of coefficients in a fixed basis, beside every rival at equal numbers."""
