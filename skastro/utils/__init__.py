"""General tools without astronomy: checks, files, optional packages, progress."""
