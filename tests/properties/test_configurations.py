"""Whatever a configuration says: an error of ours, or a run that can start. Never another exception, nor a command."""

import shutil
from pathlib import Path

import yaml
from exploring import exploration, outcome
from hypothesis import strategies as st
from mutations import COMMANDS, VALUES, mutated, yaml_bytes
from tiny_experiments import encoder_alignment, made

from nextgpt_pl.saved_network import network_of, saved_config
from nextgpt_pl.training.cli import build

EXPERIMENTS = Path(__file__).parent.parent.parent / "experiments"
BASES = (
    "enc_align.yaml",
    "dec_align.yaml",
    "instruct.yaml",
    "baselines/gallery.yaml",
    "baselines/retrieval.yaml",
    "senses/instruct.yaml",
)
#: classes outside the package, which only the user's own command line may name
FOREIGN = st.sampled_from(
    [*COMMANDS, {"class_path": "canary.Planted"}, "canary.Planted", "canary", '{"class\\x5fpath": "canary.Planted"}']
)


def _whole(name):
    """An experiment's YAML with the model that it includes; a baseline is laid over another experiment."""
    file = EXPERIMENTS / ("instruct.yaml" if "baselines" in name else name)
    text = yaml.safe_load(file.read_text())
    included = file.parent / text["model"]["init_args"]["network"]
    text["model"]["init_args"]["network"] = yaml.safe_load(included.read_text())
    if "baselines" in name:
        laid_over = yaml.safe_load((EXPERIMENTS / name).read_text())
        decoders = laid_over["model"]["init_args"]["network"]["init_args"]["decoders"]
        text["model"]["init_args"]["network"]["init_args"]["decoders"] = decoders
    return text


WHOLE = [_whole(name) for name in BASES]


def _write(folder, config):
    (folder / "nope.yaml").write_text("{a: 1}")
    file = folder / "config.yaml"
    file.write_bytes(config if isinstance(config, bytes) else yaml.safe_dump(config).encode())
    return str(file)


@exploration(few=8, many=150)
def test_a_configuration_is_refused_by_name_or_can_be_built(explore, canary):
    explore(lambda config: outcome(build, ["-c", _write(canary, config)]), config=mutated(WHOLE, VALUES))


@exploration(few=6, many=100)
def test_a_text_is_refused_by_the_name_of_its_file_or_can_be_built(explore, canary):
    explore(lambda text: outcome(build, ["-c", _write(canary, text)]), text=yaml_bytes(WHOLE))


@exploration(few=20, many=400)
def test_a_run_that_is_read_is_refused_by_name_or_can_be_built(explore, canary):
    explore(lambda config: outcome(network_of, config), config=mutated(WHOLE, st.one_of(VALUES, FOREIGN)))


@exploration(few=6, many=100)
def test_the_text_of_a_run_is_refused_by_the_name_of_its_file_or_can_be_built(explore, canary):
    def read(text):
        _write(canary, text)
        return outcome(lambda: network_of(saved_config(canary)))

    (canary / "adapter").mkdir()
    explore(read, text=yaml_bytes(WHOLE))


def _fit(models):
    """A training of one step on the tiny models, with all sections of a configuration."""
    source = made("datamodules.PocketWorld", train_size=4, val_size=2, modalities=["image"])
    trainer = {
        "max_steps": 1,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 0,
        "accelerator": "cpu",
        "gradient_clip_val": 1.0,
        "accumulate_grad_batches": 1,
        "log_every_n_steps": 1,
        "val_check_interval": 1,
        "precision": "32-true",
        "enable_progress_bar": False,
    }
    run = {"name": "a", "keep_last": 1, "checkpoint_every": 1}
    parts = encoder_alignment(models, source, batch_size=2, lr=1e-3, captions=1, max_new_tokens=2, warmup_ratio=0.0)
    return {"seed_everything": 0, "trainer": trainer, "run": run, **parts}


def _trains_or_is_refused(canary, forked, config):
    ended = forked.run(["fit", "-c", _write(canary, config), "--trainer.max_steps=1"], canary)
    shutil.rmtree(canary / "outputs", ignore_errors=True)
    assert ended.code is not None, f"more than {ended.seconds:.0f} seconds, or too much memory: {ended.output}"
    assert "Traceback" not in ended.output, ended.output
    assert ended.code in (0, 2), (ended.code, ended.output)
    assert ended.code == 0 or "error: " in ended.output, ended.output
    return "right" if ended.code == 0 else "refused"


@exploration(few=4, many=100)
def test_a_configuration_trains_or_is_refused(explore, canary, forked, tiny_models):
    whole = _fit(tiny_models)
    assert _trains_or_is_refused(canary, forked, whole) == "right"
    explore(lambda config: _trains_or_is_refused(canary, forked, config), config=mutated([whole], VALUES, most=2))
