"""Tools that know nothing of astronomy: checks, files, optional packages, progress."""
