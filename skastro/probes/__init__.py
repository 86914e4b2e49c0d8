"""Probes: small classifiers on embeddings and properties, and what they share."""
