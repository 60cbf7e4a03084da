"""The pocket tier: a procedural world of items with exact attributes, and small models trained on it."""
