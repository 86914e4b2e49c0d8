"""Displays: one file each, and their common style."""
