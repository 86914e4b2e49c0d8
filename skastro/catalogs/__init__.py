"""Read, match and write tables of objects, and find their columns and labels."""
