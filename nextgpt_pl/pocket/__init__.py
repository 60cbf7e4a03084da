"""The pocket tier: a procedural world whose items are known exactly, and small models trained on it."""
