"""The proof on the pocket world: a whole build with its decoders, against an endpoint with faults, judged exactly."""

import json
from collections import Counter
from pathlib import Path

import pytest
from building_parts import Faulty, scenes_agree

from nextgpt_pl.__main__ import main
from nextgpt_pl.building import Draw, PocketJudge
from nextgpt_pl.building.answers import decoded
from nextgpt_pl.building.journal import DialogueRecord, ReplyRecord, records
from nextgpt_pl.building.media import Wanted
from nextgpt_pl.building.pocket_server import serving
from nextgpt_pl.building.rows import media_of
from nextgpt_pl.datamodules import OfficialDialogues, PocketWorld
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.judges.text import judge_text
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.samples import MediaPart

ROOT = Path(__file__).parent.parent.parent
FILE = "mosit_instruction_tuning.json"
COUNT = 100


def planted():
    """Faults of a fifth of the dialogues, by number."""
    faults = {number: [("prose", "schema", "busy", "drop", "error")[number // 7 % 5]] for number in range(3, COUNT, 7)}
    return faults | {40: ["broken", "kinds", "cut"], 60: ["roles", "refused"]}


@pytest.mark.long
def test_a_hundred_dialogues_agree_with_their_media(tmp_path, capsys):
    with serving(server := Faulty(planted())) as url:
        config = ROOT / "experiments" / "build" / "pocket.yaml"
        command = ["data", "build", "-c", str(config), f"--count={COUNT}", f"--out={tmp_path}"]
        assert main([*command, f"--endpoint.base_url={url}"]) == 0
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / FILE).read_text())
    assert len(rows) == COUNT
    assert len({row["id"] for row in rows}) == COUNT
    assert 40 not in {row["id"] for row in rows}
    assert "1 no usable reply" in printed

    # the media show what their captions say
    agree = list(scenes_agree(tmp_path).values())
    assert len(agree) == COUNT
    assert all(agree)
    assert sum(map(all, agree)) >= 0.99 * COUNT
    # and the captions say what the LLM wrote
    written = _written(tmp_path)
    for number, scenes in _kept(tmp_path).items():
        assert scenes == written[number]

    dialogues = OfficialDialogues(tmp_path, [FILE]).read("train")
    media = Counter(p.modality for d in dialogues for m in d.messages for p in m.parts if isinstance(p, MediaPart))
    assert min(media[m] for m in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)) > 30
    assert sum(media.values()) == sum(map(len, agree))
    assert server.numbers.total() >= COUNT + 20


def _written(folder):
    """The scenes of the LLM's captions per dialogue, in order."""
    return {
        record.number: [judge_text(p.caption, p.modality) for _, p in media_of(decoded(record.messages))]
        for record in records(folder)
        if isinstance(record, ReplyRecord) and record.messages is not None
    }


def _kept(folder):
    """The scenes of the media's captions per kept dialogue, in order."""
    scenes = {}
    for record in records(folder):
        if isinstance(record, DialogueRecord) and record.row is not None:
            kinds = sorted(
                (n, m) for m in GENERATED for s in ("input", "output") for n in record.row.get(f"{s}_{m}", [])
            )
            scenes[record.number] = [judge_text(c, m) for c, (_, m) in zip(record.captions, kinds, strict=True)]
    return scenes


@pytest.mark.long
def test_drawing_again_makes_held_out_sounds_right():
    """The decoder alone makes 95% of them right."""
    items = PocketWorld(0, 60, ["audio"]).read("val")
    wanted = [Wanted(Modality.AUDIO, item.caption, number) for number, item in enumerate(items)]
    draw = Draw(pocket_decoder(Modality.AUDIO), PocketJudge(), tries=6, device="cpu")
    found = draw.find(wanted)
    complete = [result for result in found if result is not None]
    assert len(complete) >= 59
    assert all(PocketJudge().accepts([r.medium for r in complete], [r.caption for r in complete]))
    assert sum(result.tries > 1 for result in complete) >= 1
