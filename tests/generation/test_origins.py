"""A medium's origin, from the decoder that retrieves or generates it to everything that shows a reply."""

import json

import pytest
import tiny
from galleries import pairs, pocket_gallery

from nextgpt_pl.decoders.retrieval import RetrievalDecoder
from nextgpt_pl.evaluation import records, report, run
from nextgpt_pl.evaluation.records import Prediction
from nextgpt_pl.evaluation.tasks import Task
from nextgpt_pl.generation.drawing import draw
from nextgpt_pl.generation.streaming import joined
from nextgpt_pl.hub.processor import message_part
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.chat import dialogue_of
from nextgpt_pl.samples import Origin, ReplyPart
from nextgpt_pl.serving.content import content_part
from nextgpt_pl.verbs.talking import printed

pytest.importorskip("faiss")
IMAGE = Modality.IMAGE
FAR = "a photo of nothing like it"


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    pocket_gallery(folder, items=pairs(count=4))
    return RetrievalDecoder(tiny.quick_decoder(IMAGE), "image", folder, 0.05)


@pytest.fixture(scope="module")
def parts(decoder, tiny_models):
    """A part that is retrieved, and one that is generated."""
    network = tiny.network(tiny_models)
    network.decoders[IMAGE] = decoder
    embeddings = decoder.embed_captions([pairs()[1].caption, FAR])
    return draw(network, [ReplyPart("image")] * 2, list(embeddings), [0, 1], {IMAGE: {}})


def test_a_part_says_whether_it_was_retrieved_and_how_near(parts, decoder):
    near, far = decoder.retrieve(decoder.embed_captions([pairs()[1].caption, FAR]), [0, 1])
    item = pairs()[1]
    assert parts[0].origin == Origin("retrieved", near.distance, item.key, item.caption)
    assert parts[1].origin == Origin("generated", far.distance)
    assert near.distance < 0.05 < far.distance


def test_a_decoder_without_a_gallery_names_no_origin(tiny_models):
    network = tiny.network(tiny_models)
    embeddings = network.decoders[IMAGE].embed_captions([FAR])
    (part,) = draw(network, [ReplyPart("image")], list(embeddings), [0], {IMAGE: {}})
    assert part.origin is None
    assert "origin" not in content_part(part)


def test_parts_of_messages_have_it_and_may_be_sent_back(parts):
    for part in parts:
        expected = {k: v for k, v in vars(part.origin).items() if v is not None}
        sent = content_part(part)
        assert json.loads(json.dumps(sent["origin"])) == expected == message_part(part)["origin"]
        asked = {"role": "user", "content": "Again."}
        for given in (sent, message_part(part), part):
            dialogue = dialogue_of([asked, {"role": "assistant", "content": [given]}, asked])
            assert dialogue.messages[1].parts[0].modality is IMAGE


def test_no_readable_item_is_no_distance():
    assert Origin("generated").as_dict() == {"kind": "generated"}
    assert str(Origin("generated")) == "generated"


def test_the_terminal_prints_it(parts, tmp_path, capsys):
    assert joined(printed(iter(parts), tmp_path)) == parts
    lines = capsys.readouterr().out.splitlines()
    for line, part in zip(lines, parts, strict=True):
        assert line.endswith(f"({part.origin.kind}, distance {part.origin.distance:.4g}" + _item(part))


def _item(part):
    return ")" if part.origin.item is None else f", {part.origin.item})"


class _Task(Task):
    def items(self):
        return iter(())


def test_predictions_and_the_report_have_it(parts, tmp_path):
    reply = [records.written(part, tmp_path, f"{i}") for i, part in enumerate(parts)]
    with (tmp_path / records.FILE).open("w") as file:
        records.write_line(Prediction("drawn", "1", [], reply), file)
    (prediction,) = records.read(tmp_path)
    assert [records.origin_of(medium) for medium in prediction.media] == [part.origin for part in parts]
    task = _Task("drawn", [])
    record = run.score([task], tmp_path)
    distances = [part.origin.distance for part in parts]
    assert record["tasks"]["drawn"]["origins"] == {
        "generated": {"media": 1, "distance": distances[1]},
        "retrieved": {"media": 1, "distance": distances[0]},
    }
    page = report.write(record, {}, tmp_path).with_suffix(".md").read_text()
    mean = f"mean distance of the nearest item of the gallery: {distances[0]:.4g}"
    assert f"| drawn | media retrieved | 1 | {mean} |" in page
    assert f"retrieved, distance {distances[0]:.4g}, {pairs()[1].key}" in page


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ("gallery", "origin: a kind, retrieved or generated, is expected"),
        ({"kind": "found"}, "origin: a kind"),
        ({"kind": "retrieved", "distance": float("nan")}, "distance=nan"),
        ({"kind": "retrieved", "where": "x"}, "where"),
    ],
)
def test_a_malformed_origin_is_a_failed_prediction(origin, message, parts, tmp_path):
    reply = [{**records.written(parts[0], tmp_path, "0"), "origin": origin}]
    with (tmp_path / records.FILE).open("w") as file:
        records.write_line(Prediction("drawn", "1", [], reply), file)
    (prediction,) = records.read(tmp_path)
    assert message in prediction.failed
