"""What the libraries say beside a command's own output, and nobody can act on."""

from __future__ import annotations

import logging
import os
import re
import warnings

_NOISE = (
    r".*does not have many workers.*",
    r".*The number of training batches.*smaller than the logging interval.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*`weights_only` was not set.*",
    r".*Experiment logs directory .* exists and is not empty.*",
    r".*The dirpath has changed from.*",
    r".*You have overridden `transfer_batch_to_device`.*",
    r".*in eval mode at the start of training.*",
    r".*It is recommended to use `self.log\(.*sync_dist=True.*",
    r".*LightningCLI's args parameter is intended.*",
)


def quieten() -> None:
    """Before transformers and diffusers are imported: they read their settings then."""
    for variable in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(variable, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_IsNews())


class _IsNews(logging.Filter):
    """Drops Lightning's advertisements and hardware inventory."""

    _old = re.compile(
        r"💡|^(GPU|TPU|HPU) available|litlogger|LitLogger|`Trainer\.fit` stopped|`weights_only` was not set"
    )

    def filter(self, record: logging.LogRecord) -> bool:
        return not self._old.search(record.getMessage())
