from random import Random

import pytest

from nextgpt_pl.evaluation.judged import judge_reply
from nextgpt_pl.evaluation.tasks import messages_of
from nextgpt_pl.pocket.world import dialogues, turns
from nextgpt_pl.pocket.world import scenes as world
from nextgpt_pl.samples import ReplyPart


def _is_right(reply, expected):
    media = [(part.type, lambda part=part: part.array) for part in reply if part.type != "text"]
    fits, readings = judge_reply(" ".join(part.text for part in reply if part.text), media, expected)
    return fits and all(found == wanted for wanted, found in readings)


@pytest.mark.parametrize("route", dialogues.ROUTES)
def test_the_true_reply_of_every_route_is_judged_right(route):
    """The judge accepts what the dialogue itself says and renders, and not the reply to another dialogue."""
    right = 0
    for index in range(4):
        dialogue = dialogues.dialogue(route, "heldout", index)
        expected = dialogue.attributes["expected"]
        reply = [ReplyPart("text", text=p.text) for p in dialogue.messages[-1].parts if hasattr(p, "text")]
        for kind, scene in expected:
            if kind != "text":
                medium = turns.medium_of(scene, Random(index))
                reply.append(ReplyPart(kind, array=medium.source()))
        assert _is_right(reply, expected)
        other = dialogues.dialogue(route, "heldout", index + 100).attributes["expected"]
        right += bool(other) and _is_right(reply, other)
        assert messages_of(dialogue.messages[:-1])[-1]["role"] == "user"
    assert (right == 4) == (route == "beyond")  # whose replies are all the same


def test_dialogues_of_a_split_stay_in_it():
    for route in dialogues.ROUTES:
        for index in range(20):
            for split in ("train", "heldout"):
                for kind, scene in dialogues.dialogue(route, split, index).attributes["expected"]:
                    if route not in ("audio->image", "anything") and not isinstance(scene, world.Answer):
                        assert world.is_heldout(scene) == (split == "heldout"), (route, kind)
