import base64
import io
import json
from random import Random

import numpy as np
import pytest
from PIL import Image

from nextgpt_pl.building import Endpoint
from nextgpt_pl.building.pocket_server import Response, completion, serving
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.judges import ClipJudge, EndpointJudge, ExactJudge, Inquiry, Scale
from nextgpt_pl.evaluation.judges.base import YES
from nextgpt_pl.evaluation.judges.endpoint_judge import values_of
from nextgpt_pl.evaluation.judges.exact_judge import holds, shows
from nextgpt_pl.media.writing import save_image
from nextgpt_pl.metrics.extractors import PocketFeatures
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.pocket.world.scenes import ImageScene, Thing

RED, BLUE = Thing("circle", "red", "small", "left"), Thing("circle", "blue", "large", "right")
SCENE = ImageScene((RED, BLUE), "white")
GRADES = (Scale("first", 0, 2, "how red it is"), Scale("second", 1, 5, "how round it is"))


@pytest.fixture
def image(tmp_path):
    save_image(render(SCENE, Random(0)), tmp_path / "image.png")
    return tmp_path / "image.png"


def _clause(count=1, **more):
    return {"class": "circle", "count": count, **more}


@pytest.mark.parametrize(
    ("include", "exclude", "right"),
    [
        ([_clause(2)], [_clause(3)], True),
        ([_clause(2)], [_clause(2)], False),
        ([_clause(3)], [], False),
        ([_clause(color="blue")], [], True),
        ([_clause(2, color="blue")], [], False),
        ([_clause(color="blue"), _clause(color="red", position=["left of", 0])], [], True),
        ([_clause(color="blue"), _clause(color="red", position=["right of", 0])], [], False),
        ([_clause(color="blue"), _clause(color="red", position=["above", 0])], [], False),
        ([{"class": "star", "count": 1}], [], False),
    ],
)
def test_clauses_of_geneval(include, exclude, right):
    assert shows(SCENE, {"include": include, "exclude": exclude}) is right


@pytest.mark.parametrize(
    ("proposition", "right"),
    [
        ("entity - whole (circles)", True),
        ("entity - whole (star)", False),
        ("attribute - color (circle, blue)", True),
        ("attribute - size (disc, tiny)", True),
        ("attribute - position (circle, top)", False),
        ("relation - spatial (circle, circle, left)", True),
        ("relation - spatial (circle, circle, below)", False),
        ("other - count (circles, ==2)", True),
        ("other - count (circles, ==3)", False),
        ("global (white background)", True),
        ("global - (black)", False),
    ],
)
def test_tuples_of_dpg_bench(proposition, right):
    assert holds(SCENE, proposition) is right


@pytest.mark.parametrize(
    "proposition", ["entity - whole (truck)", "attribute - mood (circle, sad)", "ring", "other - x (a)"]
)
def test_what_the_world_does_not_have_is_named(proposition):
    with pytest.raises(UserError, match="pocket world"):
        holds(SCENE, proposition)


def test_a_caption_is_compared_exactly(image):
    right = grammar.plain_caption(SCENE)
    asked = [Inquiry("?", GRADES, (image,), caption) for caption in (right, right.replace("red", "pink"))]
    assert [j.values for j in ExactJudge().judge(asked)] == [{"first": 2, "second": 5}, {"first": 0, "second": 1}]
    with pytest.raises(UserError, match="'a cat' does not describe"):
        ExactJudge().judge([Inquiry("?", GRADES, (image,), "a cat")])


def _endpoint(url, **options):
    return Endpoint(url, "a-model", key_variable=None, temperature=0.0, repeats=0, concurrency=2, **options)


def test_an_llm_sees_the_image_and_its_numbers_are_read(image):
    requests = []

    def answer(request):
        requests.append(request)
        return Response(200, completion('Sure: {"reason": "red", "first": 1.5, "second": 4}', "?"))

    with serving(answer) as url:
        judge = EndpointJudge(_endpoint(url))
        (judgement,) = judge.judge([Inquiry("How is it?", GRADES, (image,))])
        assert judge.identity == f"a-model at {url}, temperature 0, wording 1"
    assert judgement.values == {"first": 1.5, "second": 4}
    system, user = requests[0]["messages"]
    assert "- 'second', from 1 to 5: how round it is." in system["content"]
    text, shown = user["content"]
    assert text["text"] == "How is it?"
    png = base64.b64decode(shown["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert (np.asarray(Image.open(io.BytesIO(png))) == np.asarray(Image.open(image))).all()
    assert requests[0]["response_format"]["json_schema"]["schema"]["required"] == ["reason", "first", "second"]


@pytest.mark.parametrize(
    "text", ["", "two", "{}", '{"first": 1}', '{"first": 1, "second": 9}', '{"first": "x", "second": 2}', "{" * 9999]
)
def test_what_cannot_be_parsed_has_no_values(text):
    assert values_of(text, GRADES) is None


def test_not_a_number_is_no_number():
    assert values_of('{"first": NaN, "second": 2}', GRADES) is None


def test_a_cut_reply_cannot_be_parsed_and_a_failed_request_is_no_reply(image):
    asked = [Inquiry(f"{n}?", (YES,), (image,)) for n in range(3)]
    with serving(lambda request: Response(200, completion('{"yes": 1}', "?", "length"))) as url:
        (judgement,) = EndpointJudge(_endpoint(url)).judge(asked[:1])
        assert (judgement.values, judgement.failed) == (None, None)
    with serving(lambda request: Response(403, {"error": {"message": "not allowed"}})) as url:
        found = EndpointJudge(_endpoint(url)).judge(asked)
    assert all(judgement.values is None and judgement.failed for judgement in found)
    assert "status 403" in "".join(judgement.failed for judgement in found)


def test_a_similarity_as_answer(image):
    judge = ClipJudge(PocketFeatures(), threshold=0.5)
    right = grammar.plain_caption(SCENE)
    asked = [Inquiry("?", (YES, GRADES[1]), (image,), caption) for caption in (right, "a low bell held steady")]
    good, bad = judge.judge(asked)
    assert good.values["yes"] == 1
    assert bad.values["yes"] == 0
    assert 1 <= bad.values["second"] < 3 < good.values["second"] <= 5
    assert good.values["second"] == pytest.approx(1 + 4 * float(good.raw), abs=1e-3)
    assert judge.identity == "pocket ImageBind, yes from 0.5, 1"
    assert judge.judge([]) == []
    with pytest.raises(UserError, match="an image and its caption are needed"):
        judge.judge([Inquiry("?", (YES,), (image,))])


def test_digests_depend_on_question_image_and_judge(image, tmp_path):
    save_image(render(ImageScene((RED,), "white"), Random(0)), tmp_path / "other.png")
    base = Inquiry("?", (YES,), (image,), "c", {"a": 1})
    others = [
        Inquiry("!", (YES,), (image,), "c", {"a": 1}),
        Inquiry("?", GRADES, (image,), "c", {"a": 1}),
        Inquiry("?", (YES,), (tmp_path / "other.png",), "c", {"a": 1}),
        Inquiry("?", (YES,), (image,), "c", {"a": 2}),
    ]
    digests = {inquiry.digest("j") for inquiry in [base, *others]} | {base.digest("k")}
    assert len(digests) == 6
    assert base.digest("j") == Inquiry("?", (YES,), (image,), "c", json.loads('{"a": 1}')).digest("j")
