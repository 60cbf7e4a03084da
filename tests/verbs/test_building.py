import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from building_parts import LINES, Faulty, same_kinds

from nextgpt_pl.__main__ import main
from nextgpt_pl.building.pocket_server import serving
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.modality import modality_of_file
from nextgpt_pl.samples import Media

ROOT = Path(__file__).parent.parent.parent
YAMLS = sorted((ROOT / "experiments" / "build").glob("*.yaml"))
FILE = "mosit_instruction_tuning.json"


def write_yaml(folder, media=None, **options):
    """A build on rendered media."""
    config = {
        "count": 12,
        "endpoint": {"base_url": "pocket:", "model": "pocket", "key_variable": None, "concurrency": 4},
        "prompts": {
            "topics": ["shapes", "sounds"],
            "templates": [{"user": LINES}],
            "exchanges": [2, 3],
            "kinds_per_dialogue": [1, 2],
        },
        "media": media or {m: [{"class_path": "building_parts.Rendered"}] for m in ("image", "video", "audio")},
        **options,
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    return ["data", "build", "-c", str(folder / "small.yaml")]


def test_a_build_by_the_verb_is_pinned_to_its_settings(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = write_yaml(tmp_path)
    assert main([*command, "--count=3"]) == 0
    assert "3 of 3 dialogues" in capsys.readouterr().out
    folder = Path("outputs/build/small")
    assert len(json.loads((folder / FILE).read_text())) == 3
    kept = yaml.safe_load((folder / "build.yaml").read_text())
    assert kept["prompts"]["init_args"]["topics"] == ["shapes", "sounds"]
    assert "base_url" not in kept["endpoint"]["init_args"]
    assert main([*command, "--count=5", "--limit=1", "--endpoint.concurrency=2"]) == 0
    assert len(json.loads((folder / FILE).read_text())) == 4
    assert main([*command, "--seed=1", "--endpoint.model=other"]) == 2
    assert "a build with other settings (endpoint, seed); give another --out" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--dry_run", "--dry-run", "--dry_run=true"])
def test_a_dry_run_shows_the_prompt_and_the_cost_and_asks_nothing(flag, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "openai", None)
    prices = ["--endpoint.input_price=1", "--endpoint.output_price=2", "--endpoint.max_tokens=1000"]
    assert main([*write_yaml(tmp_path), flag, *prices, "--endpoint.key_variable=NO_SUCH_KEY"]) == 0
    printed = capsys.readouterr().out
    assert "--- system\nReply with one JSON object" in printed
    assert "--- user\nDialogue: 0\nKinds: " in printed
    tokens = int(re.search(r"about ([\d,]+) tokens in, at most 12,000 out", printed)[1].replace(",", ""))
    assert f"at most {(tokens + 24_000) / 1e6:.4f}" in printed
    assert not Path("outputs").exists()


@pytest.mark.parametrize("file", YAMLS, ids=lambda p: p.name)
def test_every_build_says_how_to_run_it_and_can_be_previewed(file, tmp_path, capsys, monkeypatch):
    text = file.read_text()
    assert f"python -m nextgpt_pl data build -c experiments/build/{file.name}\n" in text
    monkeypatch.setenv("NEXTGPT_DATA", str(tmp_path))
    for name in re.findall(r"files: \[(\S+\.json)\]", text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("[]")
    assert main(["data", "build", "-c", str(file), "--dry_run"]) == 0
    assert "--- user" in capsys.readouterr().out


def test_mistakes_are_named(tmp_path, capsys):
    command = write_yaml(tmp_path)
    for arguments, message in (
        (["data", "build"], "give the YAML"),
        (["data", "make"], "data make: expected one of"),
        ([*command, "--limit=-1"], "--limit=-1"),
        ([*command, "--count=0"], "count=0"),
        ([*command, "--endpoint.base_url=nowhere"], "endpoint.base_url: an address such as"),
        ([*command, "--endpoint.temprature=1"], "did you mean 'endpoint.temperature'"),
        ([*command, "--nope=1"], "nope"),
        ([*command, "--prompts.kinds=[smell]"], "prompts.kinds: 'smell'"),
        ([*command, "--endpoint.key_variable=NO_SUCH_KEY", f"--out={tmp_path}/o"], "NO_SUCH_KEY"),
    ):
        assert main(arguments) == 2, arguments
        assert message in capsys.readouterr().err


def test_help_needs_no_torch():
    code = (
        "import sys\nfrom nextgpt_pl.__main__ import main\n"
        "assert main(['data', 'build', '--help']) == 0\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"--{name}" in done.stdout for name in ("out", "limit", "dry_run"))


DRAWN = {
    "image": [
        {
            "class_path": "nextgpt_pl.building.Draw",
            "init_args": {
                "decoder": {
                    "class_path": "nextgpt_pl.decoders.DiffusionDecoder",
                    "init_args": {
                        "pipeline": "StableDiffusionPipeline",
                        "path": "pocket:image",
                        "sampling": {"num_inference_steps": 2, "height": 64, "width": 64},
                    },
                }
            },
        }
    ],
    **{m: [{"class_path": "building_parts.Rendered"}] for m in ("video", "audio")},
}


# Ctrl-C works in it also where the tests run in the background, whose processes ignore SIGINT
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from nextgpt_pl.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def _start(command, environment):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )


def _wait_for_dialogues(folder, count, process):
    journal = folder / "journal.jsonl"
    while not journal.is_file() or journal.read_text().count('"kind": "dialogue"') < count:
        assert process.poll() is None, "it ended by itself"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_build_that_is_killed_and_interrupted_ends_as_one_that_is_not(tmp_path):
    # a fault of a request that is under way at the kill does not occur again, so those that count come later
    faults = {1: ["prose"], 4: ["busy"], 6: ["drop"], 11: ["error"], 17: ["broken", "schema", "kinds"]}
    faults |= {second: [first] for first, second in same_kinds(24) if first == 16}
    command = write_yaml(tmp_path, DRAWN, count=24)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])}
    with serving(whole := Faulty(faults)) as url:
        assert main([*command, f"--endpoint.base_url={url}", f"--out={tmp_path / 'whole'}"]) == 0
    folder = tmp_path / "again"
    with serving(server := Faulty(faults, delay=0.3)) as url:
        resumed = [*command, f"--endpoint.base_url={url}", f"--out={folder}"]
        server.hold_from(10)
        killed = _start(resumed, environment)
        _wait_for_dialogues(folder, 5, killed)
        killed.kill()
        killed.wait()
        server.hold_from(20)
        assert not (folder / FILE).exists()
        interrupted = _start(resumed, environment)
        _wait_for_dialogues(folder, 12, interrupted)
        interrupted.send_signal(signal.SIGINT)
        server.hold_from(None)
        output, _ = interrupted.communicate()
        assert interrupted.returncode == 130
        assert "interrupted; the same command continues" in output
        between = json.loads((folder / FILE).read_text())
        assert 10 <= len(between) < 24
        assert main(resumed) == 0
    assert (folder / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    # only the requests that were under way when the process was killed are made again, at most 4 at once
    assert 0 <= server.numbers.total() - whole.numbers.total() <= 4
    media = [f.relative_to(folder) for f in folder.rglob("0*_*") if f.is_file()]
    assert len(media) > 24
    for file in media:
        kind = modality_of_file(file.name)
        first, second = (array_of(Media(kind, place / file))[0] for place in (tmp_path / "whole", folder))
        assert (first == second).all()
