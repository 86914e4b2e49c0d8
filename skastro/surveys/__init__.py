"""Stamps and their catalogue together: folders, cut-outs, SDSS, duplicates, inspection."""
