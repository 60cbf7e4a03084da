"""The paper's YAMLs on a pretended GPU: all stages, drawing, tasks in validation, the pipeline and ``test``."""

import json
import shutil
from pathlib import Path

import numpy as np
import paper_stages
import pytest
import torch
import torch.distributed as dist
from pretend_gpu import GPU, PretendGPU, StepCounts
from torch.testing._internal.distributed.fake_pg import FakeStore

from nextgpt_pl.__main__ import main
from nextgpt_pl.datamodules import CaptionedPairs, OfficialJSON
from nextgpt_pl.decoders import DiffusionDecoder
from nextgpt_pl.evaluation import JudgedRight, PocketRoute
from nextgpt_pl.evaluation.validation import ValidationTasks
from nextgpt_pl.features import Memory
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pipeline import AnyToAny

# dataset, file and so on, as tests/paper/conftest.py writes them
MEDIA = {
    Modality.IMAGE: ("cc3m", 0, "a.png"),
    Modality.VIDEO: ("webvid", 0, "a.mp4"),
    Modality.AUDIO: ("audiocap", 0, "a.wav"),
}
MOST = 10  # host synchronisations in a training step that does not log

_NULL_SIGNALS = ["--model.network.null_signals=true", "--model.condition_dropout=0.5"]
CASES = {
    "enc_align": ("enc_align", []),
    "dec_align": ("dec_align", ["--model.samples=0"]),
    "null signals": ("dec_align", ["--model.samples=0", *_NULL_SIGNALS]),
    "cached states": ("dec_align", ["--model.samples=0", "--model.train_signal_rows=false"]),
    # all rows in a batch, so that the first step reads the weights of every modality
    "instruct": ("instruct", ["--model.samples=0", "--data.batch_size=8"]),
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, official_data):
    monkeypatch.setenv("NEXTGPT_DATA", str(official_data))
    monkeypatch.chdir(tmp_path)


def _fit(gpu, tiny, file, *arguments, callbacks=(), **options):
    stage, data = paper_stages.build(tiny, f"paper/{file}.yaml", *arguments)
    for source in data.sources:
        source.val_fraction = 0.0  # of one row none would be left to train on
    counts = StepCounts(gpu)
    trainer = gpu.trainer(
        Path.cwd(),
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        **{"limit_val_batches": 0, "num_sanity_val_steps": 0, **options},
        callbacks=[counts, *callbacks],
    )
    trainer.fit(stage, data)
    return stage, counts.steps


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_training_step_waits_for_the_gpu_at_most_ten_times(case, tiny, capsys):
    file, arguments = CASES[case]
    with PretendGPU() as gpu:
        _, steps = _fit(gpu, tiny, file, *arguments, max_steps=3, max_epochs=3)
    with capsys.disabled():
        print(f"\n{case}: host synchronisations per step {[waits.total() for waits, _ in steps]}")
    # the first step reads weights
    for waits, _ in steps[1:]:
        assert waits.total() <= MOST, waits


@pytest.mark.slow
def test_all_that_can_be_new_in_a_step_is_waited_for_at_most_ten_times(tiny, monkeypatch, capsys):
    """Media and captions that nobody remembers, of all modalities, and every loss."""
    monkeypatch.setattr(Memory, "add", lambda *_: None)
    with PretendGPU() as gpu:
        several = ["--data.batch_size=8", "--model.samples=0"]
        _, steps = _fit(gpu, tiny, "instruct", *several, max_steps=3, max_epochs=3)
    worst = max(waits.total() for waits, _ in steps[1:])
    with capsys.disabled():
        print(f"\nnothing remembered: at most {worst} host synchronisations per step")
    assert worst <= MOST, [waits for waits, _ in steps[1:]]


@pytest.fixture
def _two_processes():
    """Of which this is one; the other one sends nothing."""
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_processes_exchange_losses_and_flags_once_per_step(case, tiny, _two_processes, capsys):
    file, arguments = CASES[case]
    with PretendGPU() as gpu:
        alone = ["--data.batch_size=1"]  # so that the epoch, whose end is told to all, has three steps
        _, steps = _fit(gpu, tiny, file, *arguments, *alone, max_steps=3, log_every_n_steps=100)
    with capsys.disabled():
        print(f"\n{case}: collectives per step {[exchanged.total() for _, exchanged in steps]}")
    assert len(steps) == 3
    for _, exchanged in steps:
        # sums of the losses; and whether to stop, with what is not finite
        assert exchanged.total() == 2, exchanged


@pytest.mark.slow
def test_decoders_draw_on_the_gpu_with_embeddings_from_files(tiny, official_data, tmp_path, monkeypatch):
    stage, _ = paper_stages.build(tiny, "paper/dec_align.yaml", "--model.samples=1", "--model.denoising_weights=null")
    (tmp_path / "embed").mkdir()
    for modality, decoder in stage.network.decoders.items():
        np.save(tmp_path / "embed" / f"{MEDIA[modality][2]}.npy", np.ones(decoder.embedding_shape, np.float32))
    shutil.copytree(official_data / "T_X_pair_data", tmp_path / "pairs")
    files = [f"pairs/{MEDIA[m][0]}/{MEDIA[m][0]}.json" for m in GENERATED]
    data = CaptionedPairs([OfficialJSON(tmp_path, files, plain_embeddings=True)], batch_size=4, max_length=512)
    drawn_on = []
    generate = DiffusionDecoder.generate

    def recorded(self, embeddings, **options):
        drawn_on.append((self.device, embeddings.device))
        return generate(self, embeddings, **options)

    monkeypatch.setattr(DiffusionDecoder, "generate", recorded)
    with PretendGPU() as gpu:
        gpu.trainer(tmp_path, precision="bf16-mixed", max_steps=1, num_sanity_val_steps=0).fit(stage, data)
    assert drawn_on == [(GPU, GPU)] * 6
    assert len(list((tmp_path / "samples").glob("*/*_0_signal.*"))) >= 3


def _tasks():
    told = PocketRoute("image->text", [JudgedRight()], count=1, max_new_tokens=6)
    return [told, PocketRoute("text->image+audio", [JudgedRight()], count=2, max_new_tokens=12)]


@pytest.mark.slow
def test_samples_and_tasks_at_a_validation(tiny):
    with PretendGPU() as gpu:
        often = {
            "max_steps": 1,
            "limit_val_batches": 1,
            "val_check_interval": 1,
            "callbacks": [ValidationTasks(_tasks())],
        }
        _fit(gpu, tiny, "instruct", "--model.samples=1", *_NULL_SIGNALS, **often)
    lines = Path("validation/step_000001/predictions.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert list(Path("samples").glob("*/*_0_signal.*"))


@pytest.mark.slow
def test_the_pipeline_reads_and_draws_every_medium(tiny):
    stage, _ = paper_stages.build(tiny, "paper/instruct.yaml", *_NULL_SIGNALS)
    picture = np.zeros((40, 48, 3), np.uint8)
    asked = [{"type": "text", "text": "Describe and redraw."}, {"type": "image", "image": picture}]
    with PretendGPU() as gpu:
        stage.configure_model()
        chat = AnyToAny(stage.network, GPU)
        assert all(gpu.devices.on_gpu(p) for p in stage.network.parameters())
        conversations = [[{"role": "user", "content": asked}], [{"role": "user", "content": "Show me a circle."}]]
        replies = chat(conversations, modalities=["image", "video", "audio"], max_new_tokens=6)
        options = {"temperature": 0.7, "max_new_tokens": 6, "modalities": ["image"]}
        parts = list(chat.stream(conversations[0], stop=lambda: False, **options))
        decoder, shown = stage.network.decoders[Modality.IMAGE], []
        embedding = torch.zeros(1, *decoder.embedding_shape, device=GPU)
        decoder.generate(embedding, seed=0, on_step=lambda step: shown.extend(step.preview()))
    for reply in replies:
        assert {part.type for part in reply} >= {"image", "video", "audio"}
    assert "image" in {part.type for part in parts}
    assert [picture.shape[-1] for picture in shown] == [3, 3]


@pytest.mark.slow
def test_the_verb_test_answers_tasks(tiny, monkeypatch):
    cpu = ["--trainer.accelerator=cpu", "--trainer.precision=32-true", *paper_stages.FLOAT32]
    few = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--run.name=a", "--model.denoising_weights=null"]
    assert main(["fit", *paper_stages.arguments(tiny, "paper/instruct.yaml", *cpu, *few)]) == 0
    folder = Path("outputs/paper/instruct/a")
    from_run = AnyToAny.from_run
    monkeypatch.setattr(AnyToAny, "from_run", lambda run, **options: from_run(run, **{**options, "device": GPU}))
    route = {
        "class_path": "PocketRoute",
        "init_args": {"route": "text->image", "scores": [{"class_path": "JudgedRight"}]},
    }
    route["init_args"] |= {"count": 2, "max_new_tokens": 6}
    Path("tasks.yaml").write_text(json.dumps({"tasks": [route]}))
    with PretendGPU():
        assert main(["test", "-c", "tasks.yaml", "--run", str(folder)]) == 0
    assert (folder / "eval" / "tasks" / "report.md").is_file()
    assert len((folder / "eval" / "tasks" / "predictions.jsonl").read_text().splitlines()) == 2
