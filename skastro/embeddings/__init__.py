"""Embeddings: computed, stored, projected, clustered, scored, and used to choose labels."""
