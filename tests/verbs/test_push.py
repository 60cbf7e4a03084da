import json
from importlib.metadata import version

import audio_runs
import huggingface_hub
import pytest
import yaml

from nextgpt_pl.__main__ import main
from nextgpt_pl.errors import UserError
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.verbs.push import push
from nextgpt_pl.verbs.score import RESULTS, ROUTES


@pytest.fixture
def run(tmp_path):
    return audio_runs.save_audio_run(tmp_path / "run")


def test_a_pushed_folder_is_read_again(run, tmp_path):
    assert main(["push", str(run), "--repo", "me/model", "--out", str(tmp_path / "hub")]) == 0
    chat = AnyToAny.from_pretrained(tmp_path / "hub")
    assert (chat.network.llm.model.get_input_embeddings().rows == 0.5).all()
    assert chat([{"role": "user", "content": "Hello!"}], modalities=[], max_new_tokens=2) is not None


def test_the_card_says_what_was_measured_and_nothing_of_the_machine(run, tmp_path):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["init_args"]["network"]["init_args"]["cache"] = {"folder": "/home/me/cache"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    push(run, "me/model", tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "nextgpt_pl"
    assert "base_model" not in front
    assert "| `val/loss` | 0.5 |\n" in card
    assert "| `test/cosine` | 0.25 |\n" in card
    assert "train/loss" not in card
    assert 'AnyToAny.from_pretrained("me/model")' in card
    assert 'pipeline("any-to-any", model="me/model", trust_remote_code=True)' in card
    assert "## What it needs" not in card
    assert "| audio decoder | `pocket:audio`, caption embedding 128 |" in card
    files = [path for path in (tmp_path / "hub").rglob("*") if path.suffix in (".md", ".yaml", ".json")]
    assert not [path for path in files if "/home/me" in path.read_text()]


def test_the_card_lists_the_classes_and_packages_that_a_run_needs(run, tmp_path):
    config = yaml.safe_load((run / "config.yaml").read_text())
    network = config["model"]["init_args"]["network"]["init_args"]
    network["output_projection"] = {"class_path": "yaml.MyProjection", "init_args": {"width": 16}}
    network["encoder"] = {"class_path": "nowhere_to_be_found.MyEncoder"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    push(run, "me/model", tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "| `nowhere_to_be_found.MyEncoder` | nowhere_to_be_found |" in card
    assert f"| `yaml.MyProjection` | PyYAML {version('PyYAML')} |" in card
    trust = '["nowhere_to_be_found.MyEncoder", "yaml.MyProjection"]'
    assert f'AnyToAny.from_pretrained("me/model", trust={trust})' in card
    assert f'trust_remote_code=True, model_kwargs={{"trust": {trust}}})' in card


def test_scores_are_a_table_of_the_card(run, tmp_path):
    values = {"all right": {"value": 0.5}, "right kinds": {"value": 1.0, "count": 10}, "malformed spans": {"value": 0}}
    names = (*ROUTES, "text->text", "sampled replies")
    tasks = {f"pocket {name}": {"items": 10, "scores": values, "paper": {}} for name in names}
    tasks["pocket text->image"]["paper"] = {"all right": 0.8}
    (run / RESULTS).parent.mkdir(parents=True)
    (run / RESULTS).write_text(json.dumps({"tasks": tasks}))
    push(run, "me/model", tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "Held-out dialogues of each route, scored by exact judges" in card
    assert "50.0%, 62.5% of the decoder's own 80.0% |" in card
    assert (tmp_path / "hub" / "scores.json").is_file()


def test_upload_is_the_hub_librarys(run, monkeypatch):
    calls = []

    class Api:
        def create_repo(self, repo, **options):
            calls.append((repo, options))

        def upload_folder(self, **options):
            calls.append(options)
            return "https://hub/commit"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert main(["push", str(run), "--repo", "me/model", "--private"]) == 0
    assert calls[0] == ("me/model", {"private": True, "exist_ok": True})
    assert calls[1]["repo_id"] == "me/model"
    assert (calls[1]["folder_path"] / "adapter" / "adapter.safetensors").is_file()


def test_a_refused_upload_says_why(run, monkeypatch):
    def refuse(self, *_, **__):
        raise OSError("401: log in first\nmore")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(UserError, match=r"--repo me/model: 401: log in first \(the files to upload are in"):
        push(run, "me/model")


def test_mistakes_are_named(run, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--repo model: expected user/name"):
        push(run, "model", tmp_path / "hub")
    with pytest.raises(UserError, match=r"no config.yaml there"):
        push(tmp_path, "me/model", tmp_path / "hub")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UserError, match="not empty"):
        push(run, "me/model", tmp_path / "full")
    for text in ("[]", "model: 5", "model: {init_args: [1]}", "x: 1"):
        (run / "config.yaml").write_text(text)
        with pytest.raises(UserError, match=r"config.yaml has no model.init_args"):
            push(run, "me/model", tmp_path / "hub")
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *_, **__: (_ for _ in ()).throw(OSError("offline"))
    )
    with pytest.raises(UserError, match="no such folder, and its download failed: offline"):
        AnyToAny.from_pretrained("me/nowhere")


def test_from_pretrained_reads_the_hub(run, tmp_path, monkeypatch):
    folder, asked = push(run, "me/model", tmp_path / "hub"), {}

    def download(name, **options):
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    assert AnyToAny.from_pretrained("me/model", revision="v1").network.loaded
    assert asked == {"name": "me/model", "revision": "v1", "allow_patterns": ["config.yaml", "adapter/*"]}
