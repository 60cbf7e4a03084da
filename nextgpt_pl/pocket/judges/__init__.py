"""Exact judges: classify the attributes of a medium or a text without any trained network."""
