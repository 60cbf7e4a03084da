"""Any source's items to tar shards or Parquet, in parallel and resumable: ``data convert``."""

from nextgpt_pl.converting.convert import Conversion, Settings

__all__ = ["Conversion", "Settings"]
