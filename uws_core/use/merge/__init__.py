"""Merging models: the rules by family, the pass over whole weights, thin factors of adapters, writing, recipes."""
