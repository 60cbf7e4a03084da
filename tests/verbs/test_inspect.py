import re

from nextgpt_pl.__main__ import main
from nextgpt_pl.pocket.world.dialogues import ROUTES
from nextgpt_pl.pocket.world.users import BEYOND


def test_a_batch_is_printed_as_a_person_reads_it(capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    arguments = ["--data.batch_size=22", "--data.sources.init_args.train_size=1"]
    assert main(["inspect", "-c", "experiments/instruct.yaml", *arguments]) == 0
    printed = capsys.readouterr().out
    plain = re.sub(r"\033\[\d+m", "", printed)
    rows = {line.split("/")[2]: line for line in plain.splitlines() if line.startswith("pocket-0/train/")}
    assert set(rows) == set(ROUTES)
    assert re.search(r"<image x20>.*<\|assistant\|>.*\[VID0\.\.23: .*\]<\|eos\|>$", rows["image->video"])
    assert re.search(r"\[AUD0\.\.7: .*\]", rows["text->audio"])
    assert rows["beyond"].rpartition("<|assistant|>")[2] == f"{BEYOND}<|eos|>"
    assert re.search(r"26 rows of up to \d+ tokens: \d+ tokens, \d+ learned, \d+% padding", plain)
    assert "\033[32m" in printed


def test_mistakes_end_with_one_message(capsys, tmp_path):
    assert main(["inspect"]) == 2
    assert capsys.readouterr().err == "error: data and model: not given; the YAML gives what a verb needs: -c FILE\n"
    (tmp_path / "more.yaml").write_text("nope: 1")
    assert main(["inspect", "-c", "experiments/instruct.yaml", "-c", str(tmp_path / "more.yaml")]) == 2
    message = "error: nope: no such key; known: ckpt_path, config, data, model, run, seed_everything, trainer\n"
    assert capsys.readouterr().err == message
    assert main(["inspect", "-c", "experiments/instruct.yaml", "--max_steps=3"]) == 2
    assert "max_steps: no such key; did you mean 'trainer.max_steps'?" in capsys.readouterr().err
    assert main(["inspect", "-c", "experiments/instruct.yaml", "--data.batchsize=3"]) == 2
    assert "batchsize: no such key" in capsys.readouterr().err
