import json
import shutil

from nextgpt_pl.pocket.pretrain import card
from nextgpt_pl.utils.paths import POCKET_PARTS, POCKET_SENSES, pocket_weights

PARTS = (*POCKET_PARTS, *POCKET_SENSES, "chat")


def test_the_card_names_every_part_file_and_figure(tmp_path):
    root = tmp_path / "weights"
    for part in PARTS[:-1]:
        (root / part).mkdir(parents=True)
    shutil.copy(next((pocket_weights() / "audio").rglob("*.safetensors")), root / "audio" / "model.safetensors")
    card.write_quality(root / "audio", measured={"all_right": 0.5, "items": 500.0})
    card.write_quality(
        root / "audio", measured={"all_right": 0.9666}, trained={"Decoding": {"steps": 1200, "seconds": 300}}
    )
    card.write_card(root)
    text = (tmp_path / "README.md").read_text()
    assert all(f"`{part}`" in text for part in PARTS[:-1])
    assert "96.7%" in text
    assert "Decoding 1,200 steps in 5 min" in text
    assert "audio/model.safetensors" in text
    assert json.loads((root / "audio" / "quality.json").read_text())["measured"] == {"all_right": 0.9666}


def test_the_shipped_card_is_of_the_shipped_weights():
    text = (pocket_weights().parent / "README.md").read_text()
    assert card._hashes(pocket_weights()) in text


def test_the_weights_are_small_enough_to_ship():
    sizes = {part: sum(f.stat().st_size for f in (pocket_weights() / part).rglob("*.safetensors")) for part in PARTS}
    assert sizes.pop("chat") < 20e6
    assert 0 < sum(sizes.pop(part) for part in POCKET_SENSES) < 2e6
    assert sum(sizes.values()) < 60e6


def test_the_account_of_a_training_lasts_until_something_is_trained_anew(tmp_path):
    file = tmp_path / "quality.json"
    old, new = ({name: {"steps": 1, "seconds": 1}} for name in ("Old", "New"))
    card.write_quality(tmp_path, measured={"items": 0.0}, trained=old)
    card.write_quality(tmp_path, measured={"items": 1.0})
    assert json.loads(file.read_text()) == {"trained": old, "measured": {"items": 1.0}}
    card.write_quality(tmp_path, measured={"items": 2.0}, trained=new)
    assert json.loads(file.read_text()) == {"trained": new, "measured": {"items": 2.0}}
