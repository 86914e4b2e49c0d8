"""The `skastro` command."""
