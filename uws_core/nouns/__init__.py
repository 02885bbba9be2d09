"""The nouns of the house: frozen dataclasses with read-only arrays; numpy only.

Letters everywhere: `n` models, a layer of `m x p` (m outputs, p inputs), `d = m p` entries, `k` directions, `r` LoRA
rank.
"""
