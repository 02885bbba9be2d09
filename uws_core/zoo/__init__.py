"""The built-in collections: a tiny vision transformer, ten tasks on handwritten digits, and what training made."""
