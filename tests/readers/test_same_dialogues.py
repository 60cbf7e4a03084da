"""The same dialogues in all forms give the same rows of token ids."""

import json

import pytest
from published import in_json, in_lines, in_parquet, in_tar, media

from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.modality import Modality

COUNT = 100


def _talk(number):
    """Texts with placeholders, the images that are shown, and the captions of those that are made."""
    texts = [f"<image>\nWhat is {number}?", f"A ball of {number}.", "And here? <image>", "A cube."]
    shown = [f"{number % 5}.png", f"{number % 5}.png"]
    if number % 3 == 0:
        texts, shown = texts[:2], shown[:1]
    captions = []
    if number % 4 == 0:
        texts += ["Draw it.", "Here: <image> Good?"]
        captions = [f"a ball of {number}"]
    return texts, shown, captions


def _turns(texts, speaker, key, names):
    return [{speaker: names[i % 2], key: text} for i, text in enumerate(texts)]


def _described(captions):
    return {"image_captions": captions} if captions else {}


def _as_messages(texts, shown, captions):
    return {
        "messages": _turns(texts, "role", "content", ("user", "assistant")),
        "images": shown,
        **_described(captions),
    }


def _as_parts(texts, shown, captions):
    """Messages whose media are parts."""
    row, shown, captions = _as_messages(texts, shown, captions), list(shown), list(captions)
    for message in row["messages"]:
        parts = []
        for piece in re_split(message["content"]):
            if piece != "<image>":
                parts.append({"type": "text", "text": piece})
            elif message["role"] == "user":
                parts.append({"type": "image", "path": f"images/{shown.pop(0)}"})
            else:
                parts.append({"type": "image", "path": "images/none.png", "caption": captions.pop(0)})
        message["content"] = parts
    return {"messages": row["messages"]}


def re_split(text):
    before, *rest = text.split("<image>")
    return [piece for piece in [before, *(p for text in rest for p in ("<image>", text))] if piece]


def _as_sharegpt(texts, shown, captions):
    return {"conversations": _turns(texts, "from", "value", ("human", "gpt")), "images": shown, **_described(captions)}


def _as_llava(texts, shown, captions):
    turns = _turns(texts, "from", "value", ("human", "gpt"))
    return {"image": shown[0] if len(shown) == 1 else shown, "conversations": turns, **_described(captions)}


def _as_official(texts, shown, captions):
    turns = _turns(texts, "from", "value", ("human", "gpt"))
    return {"input_image": shown, "conversations": turns, **_described(captions)}


def _json(as_row):
    return lambda folder, talks: in_json(folder, "rows.json", [as_row(*talk) for talk in talks])


def _parquet(folder, talks):
    rows = [_as_messages(*talk) for talk in talks]
    names = ("messages", "images", "image_captions")
    columns = {name: [row.get(name) for row in rows] for name in names}
    columns["images"] = [
        [{"bytes": (folder / "images" / name).read_bytes(), "path": name} for name in row["images"]] for row in rows
    ]
    return in_parquet(folder, "rows.parquet", columns)


def _tar(folder, talks):
    members = {}
    for number, talk in enumerate(talks):
        row = _as_messages(*talk)
        for place, name in enumerate(row.pop("images")):
            members[f"{number:04}.{place}.png"] = (folder / "images" / name).read_bytes()
        members[f"{number:04}.json"] = json.dumps(row).encode()
    return in_tar(folder, "rows.tar", members)


def _lines(folder, talks):
    return in_lines(folder, "rows.jsonl", [_as_parts(*talk) for talk in talks])


FORMS = {
    "messages": _json(_as_messages),
    "parts": _lines,
    "sharegpt": _json(_as_sharegpt),
    "llava": _json(_as_llava),
    "official": _json(_as_official),
    "parquet": _parquet,
    "tar": _tar,
}


def _rendered(folder, form, tokenizer):
    media(folder, *(f"images/{number}.png" for number in range(5)))
    file = FORMS[form](folder, [_talk(number) for number in range(COUNT)])
    conversation = Conversation(tokenizer, {Modality.IMAGE: [9001, 9002]}, {Modality.IMAGE: 3})
    rows = [conversation(dialogue) for dialogue in DataFiles(folder, [file]).read("train")]
    slots = [[(slot.modality, slot.start, slot.stop) for slot in row.slots] for row in rows]
    spans = [[(span.modality, span.start, span.stop, span.caption) for span in row.spans] for row in rows]
    return [list(row.input_ids) for row in rows], [list(row.labels) for row in rows], slots, spans


@pytest.fixture(scope="module")
def expected(tmp_path_factory, pocket_tokenizer):
    return _rendered(tmp_path_factory.mktemp("official"), "official", pocket_tokenizer)


@pytest.mark.parametrize("form", sorted(FORMS.keys() - {"official"}))
def test_ids_labels_and_slots_are_those_of_the_official_form(tmp_path, expected, form, pocket_tokenizer):
    found = _rendered(tmp_path, form, pocket_tokenizer)
    assert len(found[0]) == COUNT
    for what, own, official in zip(("ids", "labels", "slots", "spans"), found, expected, strict=True):
        assert own == official, what


def test_the_dialogues_have_shown_and_made_images(expected):
    _, _, slots, spans = expected
    assert sum(map(len, slots)) == 166
    assert sum(map(len, spans)) == 25
