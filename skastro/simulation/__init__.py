"""A simulated survey of stars, galaxies and quasars."""
