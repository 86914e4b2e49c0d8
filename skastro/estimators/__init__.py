"""Estimators: the encoder, the classifier and the probes; their targets and saved files."""
