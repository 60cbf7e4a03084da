"""Messages of libraries that a user cannot act on: off in commands, and off while this package reads weights."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from typing import Any

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
    """Silence libraries; call it before transformers and diffusers are imported, since they read settings on import."""
    for variable in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(variable, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for message in _NOISE:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_IsNews())


def quieten_bitsandbytes() -> None:
    """Silence the notice on a missing optional kernel; call it before diffusers and peft are imported."""
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_IS_NO_KERNEL_NOTICE)


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Turn off the loading bars of transformers and diffusers, and their log messages below the level of errors.

    Only libraries that are imported already are changed. Their settings are restored at the end. Bars of downloads
    belong to huggingface_hub and stay.
    """
    with contextlib.ExitStack() as settings:
        for library, silence in (("transformers", _without_bars), ("diffusers", _without_diffusers_bars)):
            if library in sys.modules:
                module = importlib.import_module(f"{library}.utils.logging")
                settings.callback(module.set_verbosity, module.get_verbosity())
                module.set_verbosity_error()
                settings.enter_context(silence(module))
        yield


@contextlib.contextmanager
def _without_bars(module: Any) -> Iterator[None]:
    # disable_progress_bar() of transformers would also turn off the bars of downloads
    previous = module.set_tqdm_hook(lambda _factory, args, kwargs: module.EmptyTqdm(*args, **kwargs))
    try:
        yield
    finally:
        module.set_tqdm_hook(previous)


@contextlib.contextmanager
def _without_diffusers_bars(module: Any) -> Iterator[None]:
    shown = module.is_progress_bar_enabled()
    module.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            module.enable_progress_bar()


class _IsNews(logging.Filter):
    """Drops Lightning's advertisements and hardware inventory."""

    _old = re.compile(
        r"💡|^(GPU|TPU|HPU) available|litlogger|LitLogger|`Trainer\.fit` stopped|`weights_only` was not set"
    )

    def filter(self, record: logging.LogRecord) -> bool:
        return not self._old.search(record.getMessage())


class _IsNoKernelNotice(logging.Filter):
    """Drops the notice that an optional kernel of bitsandbytes is not installed; it works without."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "kernels-community" not in record.getMessage()


_IS_NO_KERNEL_NOTICE = _IsNoKernelNotice()  # one, since a logger takes each filter once
