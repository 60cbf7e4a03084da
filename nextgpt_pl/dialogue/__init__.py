"""Dialogues as token ids: chat template, label mask, media slots, signal spans, padding."""
