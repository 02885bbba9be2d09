"""What is made from the shared subspace: compressed collections and merged models."""
