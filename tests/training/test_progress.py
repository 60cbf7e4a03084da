from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger

from nextgpt_pl.training.progress import ResumingProgressBar


def test_the_bar_shows_losses_and_no_version(tmp_path: Path, monkeypatch):
    class Logging(BoringModel):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)["loss"]
            self.log("train/loss", loss)
            self.log("shown", 1.0, prog_bar=True)
            return loss

    bar = ResumingProgressBar()
    seen = []

    def note(trainer, module, *_):
        seen.append(bar.get_metrics(trainer, module))

    monkeypatch.setattr(bar, "on_train_batch_end", note)
    trainer = Trainer(
        default_root_dir=tmp_path,
        logger=CSVLogger(tmp_path, version=3),
        max_steps=2,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        accelerator="cpu",
        callbacks=[bar],
    )
    trainer.fit(Logging())
    assert [set(metrics) for metrics in seen] == [{"train/loss", "shown"}] * 2
