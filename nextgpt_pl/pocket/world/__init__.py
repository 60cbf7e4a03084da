"""The procedural world: scenes, words, pixels and samples, dialogues, users."""
