"""A tiny run that was stopped before its last step, to be resumed."""

import re
import shutil

import yaml
from tiny_experiments import encoder_alignment, made

STEPS = 4
#: a schedule that does not depend on the number of steps
_CONSTANT = {"warmup_ratio": 0.0, "schedule": "constant_with_warmup"}
TRAINER = {
    "max_steps": STEPS,
    "val_check_interval": 2,
    "limit_val_batches": 1,
    "num_sanity_val_steps": 0,
    "accelerator": "cpu",
    "enable_progress_bar": False,
}


def _experiment(models):
    source = made("datamodules.PocketWorld", train_size=16, val_size=2, modalities=["image"])
    parts = encoder_alignment(models, source, batch_size=2, lr=1e-3, captions=1, max_new_tokens=2, **_CONSTANT)
    run = {"root": "outputs", "experiment": "e", "name": "r", "resume": True, "checkpoint_every": 1, "keep_last": 3}
    return {"trainer": TRAINER, "run": run, **parts}


class Runs:
    """A run that was stopped before its last step, as files, and the adapter of one that was not."""

    def __init__(self, forked, models, folder):
        self.forked, self.folder = forked, folder
        (folder / "x.yaml").write_text(yaml.safe_dump(_experiment(models)))
        self.run = folder / "outputs" / "e" / "r"
        ended = self.fit(folder)
        assert ended.code == 0, ended.output
        self.adapter = self.of_adapter(self.run)
        self.seconds = ended.seconds
        shutil.rmtree(self.run)
        ended = self.fit(folder, f"--trainer.max_steps={STEPS - 1}")
        assert ended.code == 0, ended.output
        shutil.rmtree(self.run / "adapter")
        self.files = {path.relative_to(folder): path.read_bytes() for path in _files(self.run)}
        self.last = max(path for path in self.files if path.name.startswith("step_"))

    def of_adapter(self, run):
        """The weights, as bytes."""
        return (run / "adapter" / "adapter.safetensors").read_bytes()

    def fit(self, folder, *more, **options):
        """The command; always the same."""
        shutil.copy(self.folder / "x.yaml", folder / "x.yaml") if folder != self.folder else None
        return self.forked.run(["fit", "-c", "x.yaml", *more], folder, **options)

    def restore(self, folder):
        """The stopped run, in another folder."""
        shutil.rmtree(folder / "outputs", ignore_errors=True)
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder / self.run.relative_to(self.folder)

    def resume(self, folder):
        """Resume the run; it ends as the uninterrupted one, or is refused by a sentence."""
        ended = self.fit(folder)
        run = folder / self.run.relative_to(self.folder)
        assert ended.code is not None, f"more than {ended.seconds:.0f} seconds: {ended.output}"
        assert "Traceback" not in ended.output, ended.output
        assert ended.code in (0, 2), (ended.code, ended.output)
        if ended.code == 2:
            assert re.search(r"error: .*(outputs|ckpt_path|checkpoint)", ended.output), ended.output
            return "refused"
        assert self.of_adapter(run) == self.adapter, "other weights"
        return "right"


def _files(run):
    return [path for path in run.rglob("*") if path.is_file() and not path.is_symlink() and "wandb" not in path.parts]
