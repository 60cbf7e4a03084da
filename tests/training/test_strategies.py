"""Long runs of several processes, and their checkpoints. Fresh processes: forked ones inherit the locks of threads.

Short runs of everything that may differ between processes are in ``test_process_matrix.py``.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HELPERS = Path(__file__).parent.parent / "helpers"
STAGES = ("EncoderAlignment", "DecoderAlignment", "InstructionTuning")


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _run(world, *runs):
    """What each process found in each run, one after the other in the same processes: ``found[run][rank]``."""
    settings = [{"batch": 2, "steps": 4, "world": world, **run, "out": str(run["out"])} for run in runs]
    command = [sys.executable, str(HELPERS / "run_stage.py"), json.dumps(settings)]
    port, folder = str(_free_port()), Path(runs[0]["out"]).parent
    folder.mkdir(exist_ok=True, parents=True)
    processes, logs = [], [folder / f"{world}-{rank}.log" for rank in range(world)]
    for rank, log in enumerate(logs):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if world > 1:  # as torchrun says it
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world)}
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}
            environment |= {"LOCAL_WORLD_SIZE": str(world)}
        with log.open("wb") as file:
            processes.append(subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT))
    try:
        codes = [process.wait(timeout=900) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * world, "\n".join(log.read_text()[-3000:] for log in logs)
    return [[torch.load(f"{run['out']}/{rank}.pt", weights_only=True) for rank in range(world)] for run in settings]


def _same_losses(ours, theirs, tolerance=1e-5):
    assert ours["losses"].keys() == theirs["losses"].keys()
    for step, found in theirs["losses"].items():
        assert {k for k in found if k.startswith("train/")} <= ours["losses"][step].keys()
        for name in found:
            assert ours["losses"][step][name] == pytest.approx(found[name], abs=tolerance, rel=tolerance), (step, name)


def _same_trainables(processes, alone, tolerance):
    first = processes[0]["trainables"]
    assert first.keys() == alone["trainables"].keys()
    for name, value in alone["trainables"].items():
        assert all(torch.equal(other["trainables"][name], first[name]) for other in processes[1:]), name
        torch.testing.assert_close(
            first[name], value, atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("file", sorted((HELPERS.parent.parent / "experiments" / "strategies").glob("*.yaml")))
def test_strategies_are_a_second_yaml_behind_any_experiment(file, monkeypatch, tmp_path):
    from nextgpt_pl.training.cli import build

    root = HELPERS.parent.parent
    command = next(line for line in file.read_text().splitlines() if line.startswith("# Run: python -m nextgpt_pl fit"))
    files = [part for part in command.split() if part.endswith(".yaml")]
    assert files[-1] == str(file.relative_to(root))
    monkeypatch.chdir(tmp_path)
    stage, _ = build([argument for name in files for argument in ("-c", str(root / name))])
    assert type(stage).__name__ == "DecoderAlignment"


@pytest.mark.long
@pytest.mark.parametrize(
    ("strategy", "llm", "shard"),
    [
        ("sharded", {}, {}),
        ("sharded", {"gradient_checkpointing": True}, {"reshard_after_forward": False}),
        ("ddp", {}, {}),
    ],
)
def test_fifty_steps_of_two_processes_equal_those_of_one(strategy, llm, shard, tiny_models, tmp_path):
    options = {"folder": str(tiny_models), "steps": 50, "batch": 6, "data": {"train_size": 24, "workers": 1, **llm}}
    runs = [{**options, "stage": stage, "strategy": strategy, "shard": shard} for stage in STAGES]
    alone = _run(1, *({**run, "out": tmp_path / "one" / run["stage"]} for run in runs))
    both = _run(2, *({**run, "out": tmp_path / "two" / run["stage"]} for run in runs))
    for (one,), two in zip(alone, both, strict=True):
        assert len(one["losses"]) == 50
        _same_losses(two[0], one)
        _same_trainables(two, one, 1e-3)


# minutes each
@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_a_checkpoint_goes_on_in_any_number_of_processes(stage, tiny_models, tmp_path):
    """Written by two, read by one, and the other way round; on as many processes it goes on bit by bit."""
    run = {"stage": stage, "folder": str(tiny_models), "steps": 6, "val_every": 6}
    ((one,),) = _run(1, {**run, "out": tmp_path / "one", "save_at": 3})
    (two,) = _run(2, {**run, "out": tmp_path / "two", "save_at": 3})
    for saved_by in ("one", "two"):
        resume = str(tmp_path / saved_by / "half.ckpt")
        ((alone,),) = _run(1, {**run, "out": tmp_path / f"{saved_by}-one", "resume": resume})
        (both,) = _run(2, {**run, "out": tmp_path / f"{saved_by}-two", "resume": resume})
        assert alone["losses"].keys() == both[0]["losses"].keys() == {4, 5, 6}
        _same_trainables([alone, *both[:0]], one, 0 if saved_by == "one" else 1e-4)
        _same_trainables(both, two[0], 0 if saved_by == "two" else 1e-4)


@pytest.mark.slow
def test_a_mix_of_encoders_is_sharded_like_one_encoder(tiny_models, tmp_path):
    """Each row has one modality, so a rank often has none for one of the encoders, whose passes are collective."""
    import tiny_towers

    towers = str(tmp_path / "towers")
    tiny_towers.save_towers(Path(towers), ["CLIP", "Whisper", "V-JEPA 2"])
    run = {"stage": "EncoderAlignment", "folder": str(tiny_models), "data": {"towers": towers, "train_size": 4}}
    run |= {"steps": 3, "batch": 4, "val_every": 3}
    ((alone,),) = _run(1, {**run, "out": tmp_path / "one"})
    (both,) = _run(2, {**run, "out": tmp_path / "two"})
    _same_losses(both[0], alone)
    _same_trainables(both, alone, 1e-3)
