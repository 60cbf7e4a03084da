"""Runs that are killed while they write, or interrupted in any phase: resumed, they equal an uninterrupted one.

Weights, states of the optimizer and positions in the data are compared bit for bit, logs and files one by one.
"""

import signal

import pytest
from killed_runs import ROOT, AsTwo, Fits, Run, difference, experiment

PER_STEP = ("--run.checkpoint_every=1",)
STRATEGIES = ROOT / "experiments" / "strategies"
CONFIGURATIONS = {
    "stage 1": ("enc_align",),
    "stage 2": ("dec_align",),
    "stage 2, every step": ("dec_align", *PER_STEP),
    "stage 2, accumulated": (
        "dec_align",
        "--trainer.accumulate_grad_batches=2",
        "--trainer.val_check_interval=4",
        *PER_STEP,
    ),
    "stage 2, cached": (
        "dec_align",
        "--model.train_signal_rows=false",
        "--model.network.cache=nextgpt_pl.features.cache.FeatureCache",
        "--model.network.cache.folder=ROOT/cache",
    ),
    "stage 3": ("instruct",),
}
MIDDLE = {"middle": True}
# configuration, event, options of the moment
KILLS = [
    ("stage 2", "open .config.yaml.partial", {"nth": 2, **MIDDLE}),
    ("stage 2", "rename config.yaml", {}),
    ("stage 2", "remove .config.yaml.partial", {}),
    ("stage 2", "open metrics.csv", MIDDLE),
    ("stage 2", "open metrics.csv", {"nth": 3, **MIDDLE}),
    ("stage 2", "rename metrics.csv", {}),
    ("stage 2", "open samples/val_step_000002/image.png", MIDDLE),
    ("stage 2", "rename samples/val_step_000004/image_captions.txt", {}),
    ("stage 2", "open checkpoints/.best_000002.ckpt.partial", {"nth": 2, **MIDDLE}),
    ("stage 2", "rename checkpoints/best_000004.ckpt", {}),
    ("stage 2", "remove checkpoints/best_000002.ckpt", {}),
    ("stage 2", "open checkpoints/.step_000002.ckpt.partial", {}),
    ("stage 2", "open checkpoints/.step_000004.ckpt.partial", {"nth": 2, **MIDDLE}),
    ("stage 2", "rename checkpoints/step_000004.ckpt", {}),
    ("stage 2", "symlink checkpoints/.last.ckpt.partial", {}),
    ("stage 2", "rename checkpoints/last.ckpt", {"nth": 2}),
    ("stage 2", "open adapter/.adapter.safetensors.partial", {}),
    ("stage 2", "rename adapter/adapter.safetensors", {}),
    ("stage 2", "open adapter/.manifest.json.partial", {"nth": 2, **MIDDLE}),
    ("stage 2", "rename adapter/manifest.json", {}),
    ("stage 2", "open curves.png", MIDDLE),
    ("stage 2", "rename index.html", {}),
    ("stage 2, every step", "rename checkpoints/step_000003.ckpt", {}),
    ("stage 2, every step", "remove checkpoints/.step_000003.ckpt.partial", {}),
    ("stage 2, every step", "remove checkpoints/step_000001.ckpt", {}),
    ("stage 2, every step", "rename checkpoints/step_000004.ckpt", {}),
    ("stage 2, accumulated", "rename checkpoints/step_000003.ckpt", {}),
    ("stage 2, accumulated", "remove checkpoints/.step_000003.ckpt.partial", {}),
    ("stage 2, cached", "rename cache/captions/manifest.json", {}),
    ("stage 2, cached", "rename cache/captions/SHARD.safetensors", {"nth": 2}),
    ("stage 1", "rename samples/val_step_000004/captions.tsv", {}),
    ("stage 1", "remove checkpoints/.step_000002.ckpt.partial", {}),
    ("stage 3", "remove checkpoints/.step_000002.ckpt.partial", {}),
    ("stage 3", "rename adapter/adapter.safetensors", {}),
]
# phase: function that is interrupted, its how manieth call, and whether the training ends as usual
PHASES = {
    "start": ("nextgpt_pl.training.cli:ExperimentCLI.instantiate_trainer", 1, False),
    "weights": ("nextgpt_pl.model:NextGPT.load", 1, False),
    "step before a validation": ("nextgpt_pl.stages.steps:Steps.training_step", 2, False),
    "step": ("nextgpt_pl.stages.steps:Steps.training_step", 3, False),
    "last step": ("nextgpt_pl.stages.steps:Steps.training_step", 4, False),
    "validation": ("nextgpt_pl.stages.steps:Steps.validation_step", 1, False),
    "last validation": ("nextgpt_pl.stages.steps:Steps.validation_step", 4, False),
    "samples": ("nextgpt_pl.stages.sample_writer:SampleWriter.write", 1, False),
    "last samples": ("nextgpt_pl.stages.sample_writer:SampleWriter.write", 2, True),
    "last checkpoint": ("nextgpt_pl.training.checkpoint_io:AtomicCheckpointIO.save_checkpoint", 4, True),
    "adapter": ("nextgpt_pl.adapter:write_adapter", 1, True),
    "page": ("nextgpt_pl.verbs.training:print_results", 1, False),
}
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


class Runs:
    """Makes runs of the configurations; an uninterrupted one of each."""

    def __init__(self, folder):
        self.folder, self.fits, self._wanted, self._number = folder, Fits(), {}, 0

    def new(self, name, fits=None, extra=()):
        experiment_name, *arguments = CONFIGURATIONS[name]
        self._number += 1
        file = experiment(self.folder, experiment_name)
        return Run(fits or self.fits, self.folder / str(self._number), file, *arguments, *extra)

    def uninterrupted(self, name):
        if name not in self._wanted:
            self._wanted[name] = self.new(name)
            code, said = self._wanted[name]()
            assert code == 0, said
        return self._wanted[name]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    made = Runs(tmp_path_factory.mktemp("killed"))
    yield made
    made.fits.close()


def _equal(run, wanted):
    found = difference(run, wanted)
    assert found is None, found


def _killed(runs, name, event, options):
    run = runs.new(name)
    code, said = run.interrupted("SIGKILL", event=event, **options)
    assert code == -signal.SIGKILL, f"there was no such moment:\n{said}"
    _equal(run, runs.uninterrupted(name))


@pytest.mark.long
@pytest.mark.parametrize(("name", "event", "options"), KILLS, ids=[f"{n}: {e} {o or ''}" for n, e, o in KILLS])
def test_a_run_that_is_killed_while_it_writes(name, event, options, runs):
    _killed(runs, name, event, options)


@pytest.mark.slow
def test_a_run_that_is_killed_between_its_last_checkpoints(runs):
    _killed(runs, "stage 2", "rename checkpoints/step_000004.ckpt", {})


def _interrupted(runs, phase, number):
    function, nth, ends = PHASES[phase]
    run = runs.new("stage 2")
    code, said = run.interrupted(number, call=function, nth=nth)
    assert code == (0 if ends else 128 + getattr(signal, number)), said
    _equal(run, runs.uninterrupted("stage 2"))


@pytest.mark.long
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("phase", PHASES)
def test_a_run_that_is_interrupted(phase, number, runs):
    _interrupted(runs, phase, number)


@pytest.mark.slow
def test_a_run_that_is_interrupted_in_its_last_validation(runs):
    _interrupted(runs, "last validation", "SIGTERM")


@pytest.mark.long
@pytest.mark.parametrize(
    ("strategy", "number", "moment"),
    [
        ("ddp", "SIGKILL", {"event": "rename checkpoints/step_000004.ckpt"}),
        ("fsdp2", "SIGKILL", {"event": "rename checkpoints/best_000004.ckpt"}),
        ("ddp", "SIGTERM", {"call": "nextgpt_pl.stages.steps:Steps.validation_step", "nth": 3}),
    ],
)
def test_a_run_of_two_processes(strategy, number, moment, runs):
    extra = ("-c", STRATEGIES / f"{strategy}.yaml", "--trainer.accelerator=cpu", "--trainer.devices=2")
    wanted, run = (runs.new("stage 2", AsTwo(), extra) for _ in range(2))
    code, said = wanted()
    assert code == 0, said
    code, said = run.interrupted(number, **moment)
    assert code == (-signal.SIGKILL if number == "SIGKILL" else 128 + signal.SIGTERM), said
    _equal(run, wanted)
