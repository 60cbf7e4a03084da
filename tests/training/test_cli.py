import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from nextgpt_pl.__main__ import main
from nextgpt_pl.training.cli import build_model

ROOT = Path(__file__).parent.parent.parent
EXPERIMENT = ROOT / "experiments" / "dec_align.yaml"
QUICK = [
    "--trainer.max_steps=1",
    "--trainer.limit_val_batches=0",
    "--model.samples=0",
    "--data.sources.init_args.train_size=4",
]
SMALL = ["--model.network.output_projection.init_args.width=16"]
VALIDATED = [
    "--trainer.max_steps=2",
    "--trainer.log_every_n_steps=1",
    "--trainer.limit_val_batches=1",
    "--trainer.val_check_interval=1",
    "--trainer.num_sanity_val_steps=0",
]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _fit(*arguments):
    return main(["fit", "-c", str(EXPERIMENT), *QUICK, *SMALL, *arguments])


def test_help_imports_no_torch():
    code = "import sys; from nextgpt_pl.__main__ import main; main(['--help']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "fit" in done.stdout


# verbs whose help lists the keys of an experiment import its classes
_READ_EXPERIMENTS = {"fit", "validate", "test", "predict", "inspect", "summary", "cache"}
_IMPORT = """
import sys
from nextgpt_pl.__main__ import VERBS, main
for verb in sorted(set(VERBS) - set(sys.argv[1:])):
    for name in ("stats", "convert", "build") if verb == "data" else ("pack",) if verb == "pocket" else ((),):
        try:
            main([verb, *([name] if name else []), "--help"])
        except SystemExit:
            pass
        assert "torch" not in sys.modules, f"{verb} {name}"
"""


def test_help_of_verbs_imports_no_torch():
    command = [sys.executable, "-c", _IMPORT, *_READ_EXPERIMENTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--run RUN" in done.stdout


def test_a_run_leaves_its_folder_and_a_second_one_another(caplog):
    assert _fit() == 0
    assert _fit("--run.name=named") == 0
    runs = sorted(Path("outputs/dec_align").iterdir())
    assert len(runs) == 2
    for run in runs:
        assert {"config.yaml", "metrics.csv", "adapter", "checkpoints"} <= {p.name for p in run.iterdir()}
    assert "used 12 of 12 rows of pocket world" in caplog.text
    config = yaml.safe_load((runs[-1] / "config.yaml").read_text())
    assert config["model"]["init_args"]["network"]["init_args"]["output_projection"]["init_args"]["width"] == 16
    # the saved configuration runs again, without the files that it was made of
    assert main(["fit", "-c", str(runs[-1] / "config.yaml"), "--run.name=again"]) == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of two steps that were validated, and what it printed. Tests change nothing in it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder)
        patch.setenv("WANDB_MODE", "disabled")
        assert _fit("--run.name=a", *VALIDATED) == 0
    return (folder / "outputs" / "dec_align" / "a").resolve(), printed.getvalue()


def test_the_end_of_fit_prints_final_values_and_the_page(finished):
    _ends_with_values_and_page(*finished)


def test_the_end_of_fit_is_the_same_with_wandb(monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert _fit("--run.name=a", *VALIDATED) == 0
    _ends_with_values_and_page(Path("outputs/dec_align/a").resolve(), capsys.readouterr().out)


def _ends_with_values_and_page(run, text):
    printed = text.splitlines()
    start = printed.index("final validation:")
    assert printed[start + 1].split()[0] == "val/loss"
    assert float(printed[start + 1].split()[1]) > 0
    assert printed[-2] == f"page: {run / 'index.html'}"
    assert printed[-1].startswith(f"done. {run}: adapter/")
    assert (run / "curves.png").is_file()


def test_validate_and_resume_from_a_checkpoint(finished):
    checkpoint = str(finished[0] / "checkpoints" / "last.ckpt")
    assert _fit("--run.name=b", "--trainer.max_steps=3", "--ckpt_path", checkpoint) == 0
    assert torch.load("outputs/dec_align/b/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3
    assert main(["validate", "-c", str(EXPERIMENT), *QUICK, *SMALL, "--ckpt_path", checkpoint]) == 0


def test_interpolations_see_overrides(tmp_path):
    text = EXPERIMENT.read_text().replace("models/", f"{EXPERIMENT.parent}/models/")
    text = text.replace("batch_size: 32", "batch_size: ${fit.trainer.max_steps}")
    (tmp_path / "linked.yaml").write_text(text)
    assert main(["fit", "-c", "linked.yaml", *QUICK, *SMALL, "--trainer.max_steps=3", "--run.name=x"]) == 0
    assert yaml.safe_load(Path("outputs/linked/x/config.yaml").read_text())["data"]["init_args"]["batch_size"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.lrr=1"], "model.lrr: no such key; did you mean 'model.lr'? (value '1')"),
        (["--model.lr=abc"], "model.lr: float is expected, got 'abc'"),
        (["--model.lr=-1"], "model.lr=-1.0: a learning rate is positive"),
        (["--trainer.max_step=3"], "trainer.max_step: no such key; did you mean 'trainer.max_steps'?"),
        (["--trainer.max_steps=abc"], "trainer.max_steps: int is expected, got 'abc'"),
        (
            ["--model.network.llm.pathh=x"],
            "model.network.llm.pathh: no such key; did you mean 'model.network.llm.path'?",
        ),
        (
            ["--model.network.output_projection.init_args.widht=3"],
            "did you mean 'model.network.output_projection.width'?",
        ),
        (["--data.batch_sizes=3"], "data.batch_sizes: no such key; did you mean 'data.batch_size'?"),
        (["--model.network=nowhere.yaml"], "nowhere.yaml"),
        (["--model.network.llm.path=pocket:lm"], "'pocket:lm': no such pocket part; did you mean 'llm'?"),
        (["--trainer=-0.0"], "trainer: a mapping or a YAML file is expected, got '-0.0'"),
        (["--trainer.precision=bf17"], "'bf16-mixed'"),
        (["--model.network.llm.quantization=5"], "model.network.llm.quantization: dict or null is expected, got '5'"),
        (["--model.network.llm.dtype=null"], "model.network.llm.dtype: null is not expected here"),
        (["--model.network.output_projection.init_args.width=null"], "output_projection.width: null is not expected"),
        (["--model.network.output_projection.init_args.width=0"], "network.output_projection.width=0: at least 1"),
        (["--model.network.llm.attention=someone/kernel"], "'flash_attention_2'"),
        (["--model.betas=[2,-1]"], "model.betas=[2.0, -1.0]"),
        (["--model.weight_decay=-1"], "model.weight_decay=-1.0: at least 0"),
        (["--data.num_workers=-1"], "data.num_workers=-1: at least 0"),
        (["--data.weights={image: 0.0}"], "all shares are 0"),
        (["--model.network.num_signal_tokens.image=1000000000"], "num_signal_tokens.image=1000000000: from 1 to 4096"),
        (["--model.network.signal_separator=99999"], "network.signal_separator=99999: the LLM's token ids are 0 to "),
        (["--seed_everything=-1"], "seed_everything=-1: expected 0 to"),
        (["--trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches=0: at least 1"),
        (["--run.checkpoint_every=-1"], "run.checkpoint_every=-1: at least 1 step, or null"),
        (["--ckpt_path=last"], "ckpt_path='last': no such file; give the path of a checkpoint"),
        (["--ckpt_path=best"], "ckpt_path='best': no such file; give the path of a checkpoint"),
        (["--ckpt_path=nowhere.ckpt"], "ckpt_path='nowhere.ckpt': no such file"),
        (["--trainer.accelerator=gpu"], "trainer.accelerator='gpu': No supported gpu backend found!"),
        (["--run.name=a/b"], "run.name='a/b': expected the name of a folder"),
        ([f"--run.name={'x' * 300}"], "a folder's name has at most 200 bytes"),
        (["--run.experiment=../x"], "run.experiment='..'"),
        (["--run.root=/proc/nowhere"], "run.root: cannot create a run folder in /proc/nowhere"),
    ],
)
def test_mistakes_give_one_message(arguments, message, capsys):
    assert main(["fit", "-c", str(EXPERIMENT), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr: 2.0e-3", "lrr: 2.0e-3", "model.lrr: no such key; did you mean 'model.lr'?"),
        ("train_size", "trian_size", "trian_size: no such key; did you mean 'data.sources.train_size'?"),
        ("pocket.yaml", "pockett.yaml", "model.network: no such file"),
        (
            "DecoderAlignment",
            "DecoderAlignmnt",
            "no 'DecoderAlignmnt' in nextgpt_pl.stages; did you mean 'DecoderAlignment'?",
        ),
        ("max_steps: 600", "max_steps: ${fit.trainer.stepz}", "fit.trainer.max_steps: Interpolation key"),
        ("lr: 2.0e-3", "lr: null", "model.lr: null is not expected"),
        ("lr: 2.0e-3", "lr: &a [*a]", "contains itself"),
        ("lr: 2.0e-3", "lr: [1", "bad.yaml: not valid YAML: expected"),
    ],
)
def test_mistakes_in_a_yaml(old, new, message, tmp_path, capsys):
    assert old in EXPERIMENT.read_text()
    text = EXPERIMENT.read_text().replace("models/", f"{EXPERIMENT.parent}/models/").replace(old, new)
    (tmp_path / "bad.yaml").write_text(text)
    assert main(["fit", "-c", "bad.yaml"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("llm", {"dtype": "float12"}, "model.network.llm.dtype: one of 'float32', 'bfloat16', 'float16' is expected"),
        ("llm", {"attention": "nope"}, "model.network.llm.attention: one of 'sdpa', 'eager', "),
        ("image", {"dtype": "float12"}, "model.network.decoders.dtype: one of 'float32', "),
    ],
)
def test_mistakes_in_an_included_yaml(part, change, message, tmp_path, capsys):
    network = yaml.safe_load((EXPERIMENT.parent / "models" / "pocket.yaml").read_text())
    parts = network["init_args"] | network["init_args"]["decoders"]
    parts[part]["init_args"].update(change)
    (tmp_path / "network.yaml").write_text(yaml.safe_dump(network))
    (tmp_path / "bad.yaml").write_text(EXPERIMENT.read_text().replace("models/pocket.yaml", "network.yaml"))
    for arguments in (["-c", "bad.yaml"], ["-c", str(EXPERIMENT), "--model.network=network.yaml"]):
        assert main(["fit", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not Path("outputs").exists()


@pytest.mark.parametrize("null", ["null", "None"])
def test_null_arrives_as_null(null):
    """On the top level and in nested keys, spelled as in YAML or as W&B's agents do."""
    keys = ("trainer.gradient_clip_val", "run.name", "model.network.encoder", "model.network.llm.chat_template")
    stage, config = build_model(["-c", str(EXPERIMENT), *(f"--{key}={null}" for key in keys)])
    assert (config.trainer.gradient_clip_val, config.run.name) == (None, None)
    assert (stage.network.encoder, stage.network.llm.chat_template) == (None, None)


def test_a_checkpoint_says_nothing_of_the_classes(tmp_path):
    torch.save({"hyper_parameters": {"_class_path": "planted.Planted", "x": 1}}, tmp_path / "x.ckpt")
    sys.modules.pop("planted", None)
    assert main(["fit", "-c", str(EXPERIMENT), *QUICK, *SMALL, "--ckpt_path", "x.ckpt"]) == 2
    assert "planted" not in sys.modules


def test_values_of_no_declared_type_name_no_code():
    """Also in one's own YAML: a class or function stands where the type says so, nowhere else."""
    spec = "{class_path: planted.Planted, init_args: {a: 1}}"
    for key in ("llm.quantization", "decoders.image.init_args.sampling", "decoders.image.init_args.scheduler_args"):
        assert main(["fit", "-c", str(EXPERIMENT), f"--model.network.{key}={{x: {spec}}}"]) == 2
    assert main(["fit", "-c", str(EXPERIMENT), "--model.network.encoder=subprocess.Popen"]) == 2


def test_unknown_verb_and_missing_file(capsys):
    assert main(["fitt"]) == 2
    assert "did you mean 'fit'?" in capsys.readouterr().err
    assert main(["fit", "-c", "nowhere.yaml"]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err
    assert main([]) == 2
    capsys.readouterr()
    assert main(["predict", "-c", str(EXPERIMENT)]) == 2
    assert "no verb 'predict': predictions of a run, as JSONL and media, are written by test" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on():
    arguments = [*QUICK, *SMALL, "--trainer.max_steps=10000", "--run.name=cut"]
    command = [sys.executable, "-m", "nextgpt_pl", "fit", "-c", str(EXPERIMENT), *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        # a shell's background jobs ignore the signal, and so would this process
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (the test has no threads)
    )
    seen = b""
    while b"train/loss" not in seen:
        chunk = os.read(process.stdout.fileno(), 4096)
        assert chunk, seen.decode(errors="replace")
        seen += chunk
    process.send_signal(signal.SIGINT)
    seen += process.communicate(timeout=120)[0]
    found = re.search(
        r"interrupted at step (\d+); to resume, run the same command with --ckpt_path (\S+)", seen.decode()
    )
    assert found, seen.decode()
    assert "Traceback" not in seen.decode()
    steps = int(found[1]) + 1
    assert _fit("--run.name=on", f"--trainer.max_steps={steps}", "--ckpt_path", found[2]) == 0
    last = torch.load("outputs/dec_align/on/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == steps
