"""Estimators: the encoder and the classifier; their targets and saved files."""
