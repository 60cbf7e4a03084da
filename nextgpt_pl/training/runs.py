"""Run folders: ``outputs/<experiment>/<run>/`` contains all files of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from nextgpt_pl.errors import UserError
from nextgpt_pl.training.wandb_mode import wandb_mode
from nextgpt_pl.utils.precision import MatmulPrecision

_LONGEST = 200  # bytes of a folder's name; file systems allow 255, and a suffix is added if the name exists


@dataclass
class RunConfig:
    """Settings of a run's folder and checkpoints.

    Args:
        root: folder of all experiments.
        experiment: name of the experiment; by default the YAML's path below ``experiments/``.
        name: name of the run; by default the time at which it starts.
        resume: resume in the run's folder from its newest checkpoint, if there is one. The same command then starts a
            run and resumes it after an interruption. Needs ``name``.
        keep_last: number of last checkpoints to keep, besides the best one.
        checkpoint_every: steps between checkpoints; by default they are saved after each validation.
        float32_matmul_precision: ``torch.set_float32_matmul_precision``. ``high`` lets GPUs multiply float32 matrices
            in TF32, several times as fast and with 10 bits of precision instead of 23.
        profile: number of training steps, after the first few, whose PyTorch profile is left in the folder ``profile``
            (for ``chrome://tracing``, Perfetto or TensorBoard).

    """

    root: Path = Path("outputs")
    experiment: str | None = None
    name: str | None = None
    resume: bool = False
    keep_last: int = 2
    checkpoint_every: int | None = None
    float32_matmul_precision: MatmulPrecision = "highest"
    profile: int | None = None

    def __post_init__(self) -> None:
        if self.resume and not self.name:
            raise UserError("run.resume=true needs run.name, the run to resume")
        if self.keep_last < 1:
            raise UserError(f"run.keep_last={self.keep_last}: at least 1 checkpoint is kept")
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise UserError(f"run.checkpoint_every={self.checkpoint_every}: at least 1 step, or null")
        if self.profile is not None and self.profile < 1:
            raise UserError(f"run.profile={self.profile}: at least 1 step, or null")
        if self.name is not None:
            _check_name("name", self.name)
        for part in self.experiment.split("/") if self.experiment is not None else ():
            _check_name("experiment", part)


def _check_name(key: str, name: str) -> None:
    """Refuse a name that is not a single folder's."""
    if name in ("", ".", "..") or any(c in "/\\" or ord(c) < 32 for c in name):
        raise UserError(f"run.{key}={name!r}: expected the name of a folder, without slashes")
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST:
        raise UserError(f"run.{key}={name[:40]!r}...: a folder's name has at most {_LONGEST} bytes")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"run.root: cannot create a run folder in {folder}: {error.strerror}") from error


def first_process() -> bool:
    """Whether this is rank 0, according to the launcher's environment; works before the process group exists."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def experiment_name(config_files: list[Path]) -> str:
    """``experiments/smol/dec_align.yaml`` is ``smol/dec_align``; a YAML elsewhere is its stem.

    The last file counts; files in ``strategies/`` are ignored, since they do not change what is computed.
    """
    named = [file for file in config_files if file.parent.name != "strategies"]
    if not named:
        return "unnamed"
    parts = named[-1].resolve().with_suffix("").parts
    if "experiments" in parts[:-1]:
        last = len(parts) - 1 - parts[::-1].index("experiments")
        return "/".join(parts[last + 1 :])
    return parts[-1]


def run_folder(run: RunConfig, config_files: list[Path]) -> Path:
    """The folder of a run with a name; without a name, its experiment's folder."""
    parent = run.root / (run.experiment or experiment_name(config_files))
    return (parent / run.name if run.name else parent).resolve()


def create_run_folder(run: RunConfig, config_files: list[Path]) -> Path:
    """Create a new folder; an existing one is used only to resume its run."""
    if run.resume:
        folder = run_folder(run, config_files)
        with _writing(folder.parent):
            folder.mkdir(parents=True, exist_ok=True)
        return folder
    parent = run_folder(RunConfig(run.root, run.experiment), config_files)
    name = run.name or datetime.now().strftime("%Y%m%d-%H%M%S")
    with _writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1000):
            folder = parent / (name if attempt == 0 else f"{name}-{attempt + 1}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder.resolve()
    raise RuntimeError(f"{parent / name}: a thousand runs of this name exist")


def loggers(folder: Path, project: str = "nextgpt_pl", until_step: int = 0) -> list[Any]:
    """A CSV log (``metrics.csv``) and W&B, offline unless ``WANDB_MODE`` is set or a sweep agent started the run.

    Args:
        folder: folder of the run.
        project: name of the W&B project.
        until_step: step that the run is resumed from; the CSV log keeps its rows of earlier steps.

    """
    from nextgpt_pl.training.csv_log import RunLog

    run_loggers: list[Any] = [RunLog(folder, until_step)]
    mode = wandb_mode()
    if mode != "disabled":
        from lightning.pytorch.loggers import WandbLogger

        name = f"{folder.parent.name}/{folder.name}"
        logger = WandbLogger(name=name, project=project, save_dir=folder)
        # Lightning always passes this argument, which wandb has deprecated with a warning
        getattr(logger, "_wandb_init", {}).pop("anonymous", None)
        run_loggers.append(logger)
    return run_loggers


def profiler(folder: Path, steps: int) -> Any:
    """A PyTorch profiler of training steps, after some for warm-up, that writes into the run's folder ``profile``."""
    import torch
    from lightning.pytorch.profilers import PyTorchProfiler

    schedule = torch.profiler.schedule(wait=2, warmup=2, active=steps, repeat=1)
    return PyTorchProfiler(folder / "profile", "steps", schedule=schedule, record_shapes=True, profile_memory=True)


def describe(folder: Path) -> str:
    """The contents of a run folder, printed at the end of a run."""
    entries = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir() if not p.name.startswith("."))
    return f"{folder}: {', '.join(entries)}"
