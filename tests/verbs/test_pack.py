import json

import audio_runs
import pytest
import torch
import yaml
from demo_runs import save_run

from nextgpt_pl.__main__ import main
from nextgpt_pl.adapter import read_adapter
from nextgpt_pl.errors import UserError
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.utils.paths import CHAT_RUN, POCKET_PARTS, pocket_weights, results_folder, run_folder
from nextgpt_pl.verbs import pack as packing
from nextgpt_pl.verbs import score as scoring
from nextgpt_pl.verbs.pack import pack


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder of pocket weights without a chat adapter, which the package uses."""
    root = tmp_path / "pocket" / "weights"
    root.mkdir(parents=True)
    for part in POCKET_PARTS:
        (root / part).symlink_to(pocket_weights() / part)
    monkeypatch.setenv("NEXTGPT_POCKET_WEIGHTS", str(root))
    return root


def test_a_packed_run_is_the_model_where_no_run_is_named(weights, tmp_path):
    with pytest.raises(UserError, match=r"'pocket:chat': no weights in .*pocket pack --run RUN"):
        AnyToAny.from_run()
    run = audio_runs.save_audio_run(tmp_path / "run")
    assert main(["pocket", "pack", "--run", str(run)]) == 0
    chats = [AnyToAny.from_run(), AnyToAny.from_run("pocket:chat"), AnyToAny.from_pretrained("pocket:chat")]
    packed = dict(chats[0].network.named_parameters())
    for chat in chats[1:]:
        assert all(torch.equal(packed[name], p) for name, p in chat.network.named_parameters())
    trained = read_adapter(run / "adapter")[1]
    for name, parameter in AnyToAny.from_run(run).network.named_parameters():
        assert torch.equal(packed[name], parameter.half().float() if name in trained else parameter), name
    config = yaml.safe_load((weights / "chat" / "config.yaml").read_text())
    assert set(config) == {"model"}
    assert "/home/me" not in str(config)
    assert "## chat" in (weights.parent / "README.md").read_text()


def test_the_card_shows_the_scores(weights, tmp_path, monkeypatch):
    pack(audio_runs.save_audio_run(tmp_path / "run"))
    with pytest.raises(UserError, match=r"--scores: .*none\.json"):
        pack(scores=tmp_path / "none.json")
    (tmp_path / "scores.json").write_text("{}")
    monkeypatch.setattr(packing, "table_rows", lambda _: [("image->text", "all right", "99.0%")])
    pack(scores=tmp_path / "scores.json")
    assert "| image->text: all right | 99.0% |" in (weights.parent / "README.md").read_text()
    assert json.loads((weights / "chat" / "quality.json").read_text()) == {
        "measured": {"image->text: all right": "99.0%"}
    }


def test_a_large_run_is_not_packed(weights, tmp_path):
    with pytest.raises(UserError, match=r"MB in half precision, at most 20 are packed"):
        pack(save_run(tmp_path / "run"))
    with pytest.raises(UserError, match="--run: give the folder of a run"):
        pack()
    assert not (weights / "chat").exists()


def test_results_of_the_packed_run_are_not_written_into_the_package(weights, tmp_path, monkeypatch):
    pack(audio_runs.save_audio_run(tmp_path / "run"))
    assert run_folder(CHAT_RUN) == weights / "chat"
    assert run_folder(tmp_path) == results_folder(tmp_path) == tmp_path
    file = scoring.CONFIG.resolve()
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr("nextgpt_pl.evaluation.run.predict", lambda _, tasks, folder, **__: asked.append(folder))
    monkeypatch.setattr("nextgpt_pl.verbs.evaluation._score", lambda *_: {})
    assert main(["test", "-c", str(file), "--count=1"]) == 0
    assert [folder.as_posix() for folder in asked] == ["outputs/chat/eval/pocket"]
    assert not (weights / "chat" / "eval").exists()
