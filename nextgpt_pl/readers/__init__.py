"""Data files: formats, published layouts, and an index of rows that is memory-mapped."""
