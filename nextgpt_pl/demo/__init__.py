"""The chat page in a browser: ``python -m nextgpt_pl demo``."""
