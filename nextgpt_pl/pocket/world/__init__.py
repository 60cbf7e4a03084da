"""The procedural world: scenes, captions, rendering, dialogues, user messages."""
