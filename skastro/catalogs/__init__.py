"""Tables of objects: read, searched for columns and labels, matched and written."""
