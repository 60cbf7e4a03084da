"""Frozen encoders: media to features."""
