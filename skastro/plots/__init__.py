"""Displays of results, each in its own file, and the style that they share."""
