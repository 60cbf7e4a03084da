"""The trainer's verbs on LightningCLI: run folders, loggers, checkpoints, and short error messages."""

from __future__ import annotations

import inspect
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

from nextgpt_pl.config.errors import config_files, explain, parse_errors
from nextgpt_pl.config.parsers import INTERPOLATING
from nextgpt_pl.config.signatures import check_nested_nulls, check_nulls
from nextgpt_pl.config.yaml_files import check_files
from nextgpt_pl.errors import UserError
from nextgpt_pl.training.checkpoint_io import AtomicCheckpointIO, newest, step_of
from nextgpt_pl.training.full_disk import explaining_full_disk
from nextgpt_pl.training.keep import BestCheckpoint, LastCheckpoints
from nextgpt_pl.training.loops import ResumableFitLoop
from nextgpt_pl.training.progress import ResumingProgressBar
from nextgpt_pl.training.restoring import restoring
from nextgpt_pl.training.resuming import CONFIG, check_checkpoint, check_settings, occupied, removed_if_failed
from nextgpt_pl.training.runs import RunConfig, create_run_folder, first_process, loggers, profiler, run_folder
from nextgpt_pl.training.usage_errors import check_seed, check_trainer, trainer_errors
from nextgpt_pl.training.wandb_mode import check_wandb, wandb_errors
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.parents import child_environment, forget_children
from nextgpt_pl.utils.precision import check_trainer_precision

_FOLDER_VARIABLE = "NEXTGPT_RUN_FOLDER"


class ExperimentCLI(LightningCLI):
    """LightningCLI with a folder per run."""

    run_folder: Path
    config_files: ClassVar[list[Path]] = []
    #: class whose arguments are further options of the command
    options: ClassVar[type | None] = None

    def __init__(self, *args: Any, held: ExitStack | None = None, **kwargs: Any) -> None:
        """``held``: contexts that are entered for the time of the command, such as the lock of the run's folder."""
        self._held = held or ExitStack()
        super().__init__(*args, **kwargs)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line and the files that it names; invalid values raise a :class:`UserError`."""
        with parse_errors(_known_keys(self.options)):
            super().parse_arguments(parser, args)

    def _parse_ckpt_path(self) -> None:
        """Do not read hyperparameters from the checkpoint: classes and arguments come from the YAML only."""

    def _set_seed(self) -> None:
        check_seed(self._verb_config().seed_everything)
        super()._set_seed()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the ``run`` section and the command's own options."""
        parser.add_class_arguments(RunConfig, "run")
        if self.options is not None:
            parser.add_class_arguments(self.options, instantiate=False)

    def _verb_config(self) -> Namespace:
        return self.config[self.subcommand] if self.subcommand else self.config

    def _logs(self) -> bool:
        """Whether the run has the loggers of :func:`loggers`."""
        trainer = self._verb_config().trainer
        return trainer.logger is None and not trainer.fast_dev_run

    def before_instantiate_classes(self) -> None:
        """Set process-wide settings, and check arguments before data and models are read."""
        config = self._verb_config()
        for section, target in {"trainer": Trainer, "run": RunConfig}.items():
            if not isinstance(config[section], Namespace):
                raise UserError(f"{section}: a mapping is expected, got {config[section]!r}")
            check_nulls(vars(config[section]), target, section)
        for section in ("model", "data"):
            check_nested_nulls(config.get(section), section)
        RunConfig(**vars(config.run))
        check_checkpoint(config.get("ckpt_path"))
        check_trainer(vars(config.trainer))
        check_trainer_precision(config.trainer.precision)
        if self.subcommand and self._logs() and first_process():
            check_wandb()
        torch.set_float32_matmul_precision(config.run.float32_matmul_precision)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create the run folder, save the resolved configuration in it, and instantiate the trainer.

        Model and data are already instantiated, so an invalid configuration leaves no folder behind.
        """
        config = self._verb_config()
        settings = RunConfig(**vars(config.run))
        self.run_folder = self._run_folder(settings)
        checkpoint = self._resume(settings)
        config.trainer.default_root_dir = str(self.run_folder)
        if self._logs():
            kwargs["logger"] = loggers(self.run_folder, until_step=checkpoint[1] if checkpoint else 0)
        if settings.profile is not None:
            if config.trainer.profiler is not None:
                raise UserError("run.profile and trainer.profiler exclude each other: set one of them")
            kwargs["profiler"] = profiler(self.run_folder, settings.profile)
        options = config.trainer
        self.trainer_defaults["callbacks"] = [
            *(_checkpoints(settings) if options.enable_checkpointing is not False else []),
            *self.extra_callbacks(),
            *([ResumingProgressBar(refresh_rate=5)] if options.enable_progress_bar is not False else []),
        ]
        with trainer_errors(vars(config.trainer), making=True):
            trainer = super().instantiate_trainer(default_root_dir=str(self.run_folder), **kwargs)
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        trainer.fit_loop = ResumableFitLoop(trainer)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.run_folder / "checkpoints")
        return trainer

    def extra_callbacks(self) -> list[Callback]:
        """Callbacks of the verb."""
        return []

    def another_model(self) -> LightningModule:
        """A second instance of the model, not loaded."""
        return cast(LightningModule, _section(self._parser(self.subcommand), self._verb_config(), "model"))

    def _run_subcommand(self, subcommand: str) -> None:
        checkpoint = self.config_init[subcommand].get("ckpt_path")
        with trainer_errors(vars(self._verb_config().trainer)), wandb_errors(), restoring(checkpoint):
            super()._run_subcommand(subcommand)

    def _run_folder(self, settings: RunConfig) -> Path:
        """The run's folder, which rank 0 creates."""
        # rank 0 passes it to the processes that it starts
        inherited = os.environ.get(_FOLDER_VARIABLE)
        if inherited:
            return Path(inherited)
        if not first_process():  # started by torchrun or srun
            return run_folder(settings, self.config_files)
        folder = create_run_folder(settings, self.config_files)
        self._held.enter_context(occupied(folder))
        text = self._parser(self.subcommand).dump(self._verb_config(), skip_none=False)
        differences = check_settings(folder, text)
        if not (folder / CONFIG).is_file():
            self._held.enter_context(removed_if_failed(folder))
        write_atomic(folder / CONFIG, text)
        os.environ[_FOLDER_VARIABLE] = str(folder)
        os.environ.update(child_environment())
        print(f"run folder: {folder}", flush=True)
        if differences:
            print(f"resumed with other settings: {'; '.join(differences)}", flush=True)
        return folder

    def _resume(self, settings: RunConfig) -> tuple[Path, int] | None:
        """With ``run.resume``, the run's checkpoint that is resumed from, by default the newest, and its step."""
        if not settings.resume or self.subcommand != "fit":
            return None
        if given := self.config_init["fit"].get("ckpt_path"):
            path = Path(given).resolve()
            is_own = path.is_file() and path.parent == self.run_folder / "checkpoints"
            return (path, step_of(path)) if is_own else None
        checkpoint = newest(self.run_folder / "checkpoints")
        if checkpoint is not None:
            self.config_init[self.subcommand]["ckpt_path"] = str(checkpoint[0])
            rank_zero_info(f"resuming from {checkpoint[0]} (step {checkpoint[1]})")
        return checkpoint


def _checkpoints(settings: RunConfig) -> list[Any]:
    return [
        BestCheckpoint(filename="best_{step:06d}", monitor="val/loss", auto_insert_metric_name=False, save_top_k=1),
        # after the best one, so that saved checkpoints contain its path
        LastCheckpoints(settings.keep_last, settings.checkpoint_every),
    ]


def _known_keys(options: type | None) -> list[str]:
    trainer = [f"trainer.{name}" for name in inspect.signature(Trainer).parameters]
    run_keys = [f"run.{name}" for name in inspect.signature(RunConfig).parameters]
    own = inspect.signature(options).parameters if options is not None else ()
    return [*own, *trainer, *run_keys, "trainer", "run", "model", "data", "config", "ckpt_path", "seed_everything"]


def parser_arguments(argv: list[str]) -> dict[str, Any]:
    """Arguments of :class:`ExperimentCLI` for a command line."""
    return {
        "model_class": LightningModule,
        "datamodule_class": LightningDataModule,
        "subclass_mode_model": True,
        "subclass_mode_data": True,
        "save_config_callback": None,
        "auto_configure_optimizers": False,
        "seed_everything_default": 0,
        "parser_kwargs": {"parser_mode": INTERPOLATING, "exit_on_error": False, "allow_abbrev": False},
        "trainer_defaults": {
            "callbacks": [],  # set in instantiate_trainer, since they depend on the run's settings
            "enable_model_summary": False,
            # the data modules shard their items themselves
            "use_distributed_sampler": False,
        },
        "args": argv,
    }


def parsed(argv: list[str], cli_class: type[ExperimentCLI] = ExperimentCLI, **arguments: Any) -> ExperimentCLI:
    """Parse a command line and, unless ``run=False``, run it.

    Raises:
        UserError: an argument or a configuration file is invalid.

    """
    try:
        # the parser loses the files' names if a YAML has interpolations
        ExperimentCLI.config_files = config_files(argv)
        for file in ExperimentCLI.config_files:
            check_files(file)
        with explaining_full_disk(lambda: os.environ.get(_FOLDER_VARIABLE)), ExitStack() as held:
            return cli_class(**parser_arguments(argv), held=held, **arguments)
    except ValueError as error:
        # the parser wraps a constructor's UserError in its report on all types that it tried
        if isinstance(error, UserError) or not str(error).startswith("Does not validate"):
            raise
        raise UserError(explain(str(error))) from error
    finally:
        os.environ.pop(_FOLDER_VARIABLE, None)
        forget_children()


class _PartsOnly(ExperimentCLI):
    """Builds model and data, without run folder and with a minimal trainer."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer that logs and saves nothing."""
        return Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)


class _ModelOnly(_PartsOnly):
    """Builds the model only; data files need not exist."""

    def instantiate_classes(self) -> None:
        """Instantiate the model."""
        self.model = _section(self.parser, self.config, "model")


class _DataOnly(_PartsOnly):
    """Builds the data module only; the model's files need not exist."""

    def instantiate_classes(self) -> None:
        """Instantiate the data module."""
        self.datamodule = _section(self.parser, self.config, "data")


def _section(parser: Any, config: Namespace, name: str) -> Any:
    """A new instance of one section of a configuration."""
    config = config.clone()
    for section in {"model", "data", "trainer"} - {name}:
        config.pop(section, None)
    return parser.instantiate(config)[name]


def build_model(argv: list[str], options: type | None = None) -> tuple[Any, Namespace]:
    """The stage of ``-c FILE ...``, not loaded, and the complete configuration; needs no data.

    Args:
        argv: arguments of ``fit``, and the options.
        options: class whose arguments are further options; their values are in the configuration.

    """
    cli = parsed(argv, cli_class=_with_options(_ModelOnly, options), run=False)
    return cli.model, cli.config


def build_data(argv: list[str], options: type) -> tuple[Any, Namespace]:
    """The data module of ``-c FILE ...``, not loaded, and the complete configuration; see :func:`build_model`."""
    cli = parsed(argv, cli_class=_with_options(_DataOnly, options), run=False)
    return cli.datamodule, cli.config


def build(argv: list[str]) -> tuple[Any, Any]:
    """Model and data module of ``-c FILE ...``, not loaded and not run."""
    cli = parsed(argv, cli_class=_PartsOnly, run=False)
    return cli.model, cli.datamodule


def build_with_options(argv: list[str], options: type) -> tuple[Any, Any, Namespace]:
    """As :func:`build`, with the stage's renderer in the data module, and the complete configuration.

    Raises:
        UserError: the configuration is invalid, or ``data.max_length`` exceeds the LLM's context.

    """
    cli = parsed(argv, cli_class=_with_options(_PartsOnly, options), run=False)
    data = cli.datamodule.with_renderer(cli.model.renderer)
    data.check_length(data.conversation().context_length)
    return cli.model, data, cli.config


def _with_options(cli_class: type[ExperimentCLI], options: type | None) -> type[ExperimentCLI]:
    return type(cli_class.__name__, (cli_class,), {"options": options})
