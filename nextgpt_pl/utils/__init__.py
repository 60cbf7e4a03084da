"""Helpers without a subject of their own: files, processes, devices, precision."""
