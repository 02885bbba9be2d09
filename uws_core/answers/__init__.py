"""Nouns to the sentence that answers a page's question; pure functions of the numbers."""
