"""Dialogues as token ids: chat template, label mask, media slots, media in replies, padding."""
