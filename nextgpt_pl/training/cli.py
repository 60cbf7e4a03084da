"""The trainer's verbs on LightningCLI: run folders, loggers, checkpoints, and errors that people can act on."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any, ClassVar

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

from nextgpt_pl.config.errors import config_files, explain, parse_errors
from nextgpt_pl.config.parsers import INTERPOLATING
from nextgpt_pl.config.signatures import check_nested_nulls, check_nulls
from nextgpt_pl.config.yaml_files import check_files
from nextgpt_pl.errors import UserError
from nextgpt_pl.training.checkpoint_io import AtomicCheckpointIO, newest
from nextgpt_pl.training.full_disk import explaining_full_disk
from nextgpt_pl.training.keep import BestCheckpoint, LastCheckpoints
from nextgpt_pl.training.progress import ResumingProgressBar
from nextgpt_pl.training.runs import RunConfig, create_run_folder, first_process, loggers, run_folder
from nextgpt_pl.training.usage_errors import check_seed, check_trainer, trainer_errors
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.parents import child_environment, forget_children
from nextgpt_pl.utils.precision import check_trainer_precision

_FOLDER_VARIABLE = "NEXTGPT_RUN_FOLDER"


class ExperimentCLI(LightningCLI):
    """LightningCLI whose runs own a folder."""

    run_folder: Path
    config_files: ClassVar[list[Path]] = []

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line and the files that it names; invalid values raise a :class:`UserError`."""
        with parse_errors(_known_keys()):
            super().parse_arguments(parser, args)

    def _parse_ckpt_path(self) -> None:
        """Do not read hyperparameters from the checkpoint: classes and arguments come from the YAML only."""

    def _set_seed(self) -> None:
        check_seed(self._verb_config().seed_everything)
        super()._set_seed()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The ``run`` section."""
        parser.add_class_arguments(RunConfig, "run")

    def _verb_config(self) -> Namespace:
        return self.config[self.subcommand] if self.subcommand else self.config

    def before_instantiate_classes(self) -> None:
        """Process-wide settings, and checks that must run before data and models are read."""
        config = self._verb_config()
        for section, target in {"trainer": Trainer, "run": RunConfig}.items():
            if not isinstance(config[section], Namespace):
                raise UserError(f"{section}: a mapping is expected, got {config[section]!r}")
            check_nulls(vars(config[section]), target, section)
        for section in ("model", "data"):
            check_nested_nulls(config.get(section), section)
        RunConfig(**vars(config.run))
        check_trainer(vars(config.trainer))
        check_trainer_precision(config.trainer.precision)
        torch.set_float32_matmul_precision(config.run.float32_matmul_precision)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the run folder, save the resolved configuration there, and let the trainer log and save into it.

        Model and data have been instantiated by now: a configuration that does not work leaves no folder behind.
        """
        config = self._verb_config()
        settings = RunConfig(**vars(config.run))
        self.run_folder = self._run_folder(settings)
        checkpoint = self._resume(settings)
        config.trainer.default_root_dir = str(self.run_folder)
        if config.trainer.logger is None and not config.trainer.fast_dev_run:
            kwargs["logger"] = loggers(self.run_folder, until_step=checkpoint[1] if checkpoint else None)
        wanted = config.trainer
        self.trainer_defaults["callbacks"] = [
            *(_checkpoints(settings) if wanted.enable_checkpointing is not False else []),
            *([ResumingProgressBar(refresh_rate=5)] if wanted.enable_progress_bar is not False else []),
        ]
        with trainer_errors(vars(config.trainer), making=True):
            trainer = super().instantiate_trainer(default_root_dir=str(self.run_folder), **kwargs)
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.run_folder / "checkpoints")
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        with trainer_errors(vars(self._verb_config().trainer)):
            super()._run_subcommand(subcommand)

    def _run_folder(self, settings: RunConfig) -> Path:
        """The folder of the run, made by its first process; the others write nothing of their own."""
        # processes that the first one starts find it in the environment
        inherited = os.environ.get(_FOLDER_VARIABLE)
        if inherited:
            return Path(inherited)
        if not first_process():  # started by torchrun or srun
            return run_folder(settings, self.config_files)
        folder = create_run_folder(settings, self.config_files)
        os.environ[_FOLDER_VARIABLE] = str(folder)
        os.environ.update(child_environment())
        text = self._parser(self.subcommand).dump(self._verb_config(), skip_none=False)
        write_atomic(folder / "config.yaml", text)
        print(f"run folder: {folder}", flush=True)
        return folder

    def _resume(self, settings: RunConfig) -> tuple[Path, int] | None:
        """With ``run.resume``: the newest checkpoint, from which the verb goes on, and its step."""
        if not settings.resume or self.subcommand != "fit" or self.config_init[self.subcommand].get("ckpt_path"):
            return None
        found = newest(self.run_folder / "checkpoints")
        if found is not None:
            self.config_init[self.subcommand]["ckpt_path"] = str(found[0])
            rank_zero_info(f"resuming from {found[0]} (step {found[1]})")
        return found


def _checkpoints(settings: RunConfig) -> list[Any]:
    return [
        BestCheckpoint(filename="best_{step:06d}", monitor="val/loss", auto_insert_metric_name=False, save_top_k=1),
        # behind the best one, so that what it saves knows which that is
        LastCheckpoints(settings.keep_last, settings.checkpoint_every),
    ]


def _known_keys() -> list[str]:
    trainer = [f"trainer.{name}" for name in inspect.signature(Trainer).parameters]
    run_keys = [f"run.{name}" for name in inspect.signature(RunConfig).parameters]
    return [*trainer, *run_keys, "trainer", "run", "model", "data", "config", "ckpt_path", "seed_everything"]


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
            "callbacks": [],  # they depend on the run's settings
            "enable_model_summary": False,
            # the data modules split their items over processes themselves
            "use_distributed_sampler": False,
        },
        "args": argv,
    }


def parsed(argv: list[str], cli_class: type[ExperimentCLI] = ExperimentCLI, **arguments: Any) -> ExperimentCLI:
    """The command line, parsed and (unless ``run=False``) run; mistakes as :class:`UserError`."""
    try:
        # the parser forgets the files' names where a YAML has interpolations
        ExperimentCLI.config_files = config_files(argv)
        for file in ExperimentCLI.config_files:
            check_files(file)
        with explaining_full_disk(lambda: os.environ.get(_FOLDER_VARIABLE)):
            return cli_class(**parser_arguments(argv), **arguments)
    except ValueError as error:
        # a UserError from a constructor arrives wrapped in the parser's report on all types it tried
        if isinstance(error, UserError) or not str(error).startswith("Does not validate"):
            raise
        raise UserError(explain(str(error))) from error
    finally:
        os.environ.pop(_FOLDER_VARIABLE, None)
        forget_children()


class _PartsOnly(ExperimentCLI):
    """Builds model and data; makes no trainer and no run folder."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """None is needed."""
        return Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)


class _ModelOnly(_PartsOnly):
    """Builds the model alone: no data are looked for."""

    def instantiate_classes(self) -> None:
        """The model."""
        config = self.config.clone()
        for section in ("data", "trainer"):
            config.pop(section, None)
        self.model = self.parser.instantiate(config).model


def build_model(argv: list[str]) -> tuple[Any, Namespace]:
    """The stage of ``-c FILE ...``, not loaded, and the whole configuration; needs no data."""
    cli = parsed(argv, cli_class=_ModelOnly, run=False)
    return cli.model, cli.config


def build(argv: list[str]) -> tuple[Any, Any]:
    """Model and data module of ``-c FILE ...``, not loaded and not run."""
    cli = parsed(argv, cli_class=_PartsOnly, run=False)
    return cli.model, cli.datamodule
