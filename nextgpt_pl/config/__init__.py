"""Configuration files: reading untrusted YAML, checking types and classes, short error messages."""
