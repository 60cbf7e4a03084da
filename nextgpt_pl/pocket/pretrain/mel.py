"""The path of :func:`nextgpt_pl.pocket.mel.compressed_mel` in the configurations of runs of version 0.1."""

from nextgpt_pl.pocket.mel import compressed_mel

__all__ = ["compressed_mel"]
