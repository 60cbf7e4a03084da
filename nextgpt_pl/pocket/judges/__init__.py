"""Exact judges: attributes read back from a medium or a text."""
