"""The passes over the weights: each reads what it needs once, in slabs, and keeps only small matrices."""
