"""Results and collections on disk: one store of bytes, how nouns become bytes, and files of saved collections."""
