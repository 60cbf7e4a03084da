import numpy as np
import pytest
import torch
from PIL import Image

from nextgpt_pl.building import Draw, MediaCheck, PocketJudge, Retrieve, Similarity
from nextgpt_pl.building.media import Wanted, find_all
from nextgpt_pl.datamodules import CaptionFolder, PocketWorld
from nextgpt_pl.decoders.base import Decoder, PrecomputedEmbeddings
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.metrics.extractors import Extractor, PocketFeatures
from nextgpt_pl.modality import Modality


class Letters(Extractor):
    """Counts of letters as features of captions; an image has those of its colour's name."""

    name = "letters"

    def _captions(self, captions):
        return torch.tensor([[float(c.lower().count(chr(97 + i))) for i in range(26)] for c in captions])

    def _media(self, media):
        names = ["red" if array_of(m)[0][0, 0, 0] > 100 else "blue" for m in media]
        return self._captions(names)


class Colours(Decoder):
    """Draws the colour in the caption from the given try on, and another one before; notes its seeds."""

    embedding_shape = (1,)

    def __init__(self, good_from=0, constant=False):
        self.good_from, self.constant, self.calls = good_from, constant, []

    def embed_captions(self, captions):
        return torch.tensor([[float("red" in caption)] for caption in captions])

    def generate(self, embeddings, *, seed, negative=None, **sampling):
        good = len(self.calls) >= self.good_from
        self.calls.append(list(seed))
        images = np.zeros((len(embeddings), 4, 4, 3), np.uint8)
        for image, value in zip(images, embeddings[:, 0], strict=True):
            image[:2, :, 0 if bool(value) == good else 2] = 0 if self.constant else 255
        return list(images)


class NeverThem(MediaCheck):
    def accepts(self, media, captions):
        return [False] * len(media)


def wanted(*captions):
    return [Wanted(Modality.IMAGE, caption, seed) for seed, caption in enumerate(captions)]


@pytest.fixture
def folder(tmp_path):
    for colour in ("red", "blue", "green"):
        Image.new("RGB", (4, 4), colour).save(tmp_path / f"{colour}.png")
        (tmp_path / f"{colour}.txt").write_text(f"a {colour} square")
    (tmp_path / "teal.png").write_bytes(b"broken")
    (tmp_path / "teal.txt").write_text("a teal square")
    return tmp_path


def retrieve(folder, threshold=0.9, **options):
    options = {"extractor": Letters(), "embeddings": folder / "embeddings", **options}
    return Retrieve([CaptionFolder(folder, val_fraction=0.0)], threshold=threshold, **options)


def test_the_item_with_the_most_similar_caption_is_retrieved(folder):
    red, blue, nothing = retrieve(folder, 0.95).find(wanted("a red square", "blue square, a", "zzz"))
    assert (red.caption, red.medium.source.name, red.origin) == ("a red square", "red.png", "retrieved")
    assert blue.caption == "a blue square"
    assert nothing is None


def test_below_the_threshold_nothing_is_retrieved(folder):
    # cosine of the letters' counts
    assert retrieve(folder, 0.9).find(wanted("a big red square"))[0] is not None
    assert retrieve(folder, 0.999).find(wanted("a big red square"))[0] is None


class Counted(Letters):
    """Letters, times a factor for each of the first 13; notes the captions that it embeds."""

    def __init__(self, factor=1.0):
        self.factor, self.embedded = factor, []

    def _captions(self, captions):
        self.embedded += captions
        return super()._captions(captions) * torch.tensor([self.factor] * 13 + [1.0] * 13)


def test_a_second_start_embeds_none_of_the_catalogue_again(folder, monkeypatch):
    monkeypatch.setattr("nextgpt_pl.building.kept_embeddings._CHUNK", 2)
    first, second, other = Counted(), Counted(), Counted(factor=3.0)
    found = [retrieve(folder, extractor=e).find(wanted("a red square"))[0].caption for e in (first, second)]
    assert found == ["a red square"] * 2
    captions = ["a blue square", "a green square", "a red square", "a teal square"]
    assert first.embedded == [*captions, "a red square"]
    assert second.embedded == ["a blue square", "a red square", "a red square"]  # a probe of each file, and the query
    retrieve(folder, extractor=other).find(wanted("a red square"))
    assert set(other.embedded) == set(captions)
    for file in (folder / "embeddings").iterdir():
        file.write_bytes(file.read_bytes()[:20])
    mended = Counted()
    retrieve(folder, extractor=mended).find(wanted("a red square"))
    assert mended.embedded == first.embedded
    (folder / "red.txt").write_text("a red disc")
    changed = Counted()
    retrieve(folder, extractor=changed).find(wanted("a red disc"))
    assert changed.embedded == ["a blue square", "a red disc", "a teal square", "a red disc"]


def test_an_embedding_that_is_not_finite_is_named(folder):
    with pytest.raises(UserError, match="letters: the embedding of 'a blue square' has numbers that are not finite"):
        retrieve(folder, extractor=Counted(factor=float("nan"))).find(wanted("a red square"))


def test_an_unreadable_item_and_a_refused_one_are_passed_over(folder):
    (found,) = retrieve(folder, 0.0, candidates=4).find(wanted("a teal square"))
    assert (found.caption != "a teal square", found.tries > 1) == (True, True)
    assert retrieve(folder, 0.9, candidates=1).find(wanted("a teal square")) == [None]
    assert retrieve(folder, 0.0, check=NeverThem()).find(wanted("a red square")) == [None]


def test_sources_without_the_modality_are_an_error(folder):
    with pytest.raises(UserError, match=r"media\.audio: the sources of Retrieve have no audio"):
        retrieve(folder).find([Wanted(Modality.AUDIO, "a bell", 0)])


def test_a_refused_drawing_is_drawn_again_with_another_seed():
    decoder = Colours(good_from=2)
    found = Draw(decoder, Similarity(Letters(), 0.3), tries=3, device="cpu").find(wanted("red", "blue"))
    assert [f.tries for f in found] == [3, 3]
    assert len({seed for call in decoder.calls for seed in call}) == 6
    again = Colours(good_from=2)
    Draw(again, Similarity(Letters(), 0.3), tries=3, device="cpu").find(wanted("red", "blue"))
    assert again.calls == decoder.calls
    never = Draw(Colours(good_from=3), Similarity(Letters(), 0.3), tries=3, device="cpu")
    assert never.find(wanted("red", "blue")) == [None, None]


def test_a_constant_medium_is_refused_without_any_check():
    assert Draw(Colours(constant=True), tries=2, device="cpu").find(wanted("red")) == [None]
    assert Draw(Colours(), tries=1, device="cpu").find(wanted("red"))[0].tries == 1


def test_a_later_source_is_asked_for_what_the_earlier_ones_lack(folder):
    decoder = Colours()
    sources = {Modality.IMAGE: [retrieve(folder, 0.99), Draw(decoder, device="cpu")]}
    found = find_all(sources, wanted("a red square", "a huge pink star", "a blue square"))
    assert [f.origin for f in found] == ["retrieved", "drawn", "retrieved"]
    assert [len(call) for call in decoder.calls] == [1]
    assert find_all({Modality.IMAGE: [retrieve(folder, 0.99)]}, wanted("zzz")) == [None]


def test_the_judges_accept_a_medium_of_its_own_caption_only():
    judge, items = PocketJudge(), PocketWorld(6, 0).read("train")
    for modality in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO):
        pairs = [item for item in items if item.modality is modality]
        media, captions = [p.media for p in pairs], [p.caption for p in pairs]
        assert judge.accepts(media, captions) == [True] * 6
        assert judge.accepts(media, captions[1:] + captions[:1]).count(True) < 2
    assert judge.accepts([items[0].media], ["a dog on a skateboard"]) == [False]


def test_similarity_in_the_space_of_the_pocket_encoder_tells_images_apart():
    items = PocketWorld(8, 0, ["image"]).read("train")
    media, captions = [p.media for p in items], [p.caption for p in items]
    check = Similarity(PocketFeatures(), 0.9)
    assert check.accepts(media, captions) == [True] * 8
    assert check.accepts(media, captions[1:] + captions[:1]) == [False] * 8


def test_invalid_arguments_are_named(folder):
    with pytest.raises(UserError, match=r"Retrieve\.threshold=2"):
        retrieve(folder, 2)
    with pytest.raises(UserError, match=r"Retrieve\.sources"):
        Retrieve([], Letters(), 0.5)
    with pytest.raises(UserError, match="PrecomputedEmbeddings cannot generate"):
        Draw(PrecomputedEmbeddings([4]))
    with pytest.raises(UserError, match=r"Similarity\.threshold=-3"):
        Similarity(Letters(), -3)
