"""Media files and arrays: reading, writing, pictures that compare media."""
