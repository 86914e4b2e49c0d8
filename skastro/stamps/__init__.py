"""Stacks of images: opened, checked, scaled, composed and measured."""
