"""The verbs of ``python -m nextgpt_pl`` that are no trainer's: typed functions, parsed by jsonargparse."""
