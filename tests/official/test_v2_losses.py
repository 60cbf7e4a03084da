"""The newer code's losses: an imported checkpoint in our stage, with the blanks that its tokenizer leaves in spans."""

import json
from functools import partial

import pytest
import torch
from golden_official import assert_golden
from official_losses import spans_in_labels
from safetensors.torch import load_file, save_file

from nextgpt_pl.batches import Batch, MediaSlot, SpanTargets
from nextgpt_pl.losses import caption_alignment
from nextgpt_pl.modality import Modality
from nextgpt_pl.official.read import import_official
from nextgpt_pl.projections import GroupingInputProjection, TransformerOutputProjection
from nextgpt_pl.samples import Media
from nextgpt_pl.stages import DecoderAlignment

from .conftest import GivenFeatures, llm_folder, tiny_network

CLOSE = {"rtol": 1e-5, "atol": 2e-5}
CASES = ["image", "video", "audio", "mixed", "image_in_image_out", "media_in_text_out"]
FAULTY = "image_in_image_out"
BLANK = 589
MEDIA = {-200: Modality.IMAGE, -300: Modality.VIDEO, -400: Modality.AUDIO}
GROUPS = 8


@pytest.fixture(scope="module")
def golden(official):
    folder = official / "v2_losses"
    return json.loads((folder / "expected.json").read_text()), load_file(folder / "io.safetensors")


@pytest.fixture(scope="module")
def imported(official, golden, tmp_path_factory):
    """A folder with the imported checkpoint and its LLM."""
    folder = tmp_path_factory.mktemp("v2")
    weights = load_file(official / "v2_losses" / "tiny_model.safetensors")
    trained = {k: v for k, v in weights.items() if "projector" in k or "embed_tokens" in k or "lm_head" in k}
    save_file(trained, folder / "mm_output_projector.safetensors")
    import_official("v2", [folder], folder / "imported")
    llm_folder(folder / "llm", golden[0]["config"]["llama"], weights, 640)
    return folder


@pytest.fixture
def stage(imported):
    network = tiny_network(
        imported / "llm",
        "v2",
        partial(TransformerOutputProjection, width=32, dropout=0.0),
        partial(GroupingInputProjection, width=32),
        GivenFeatures(48, {Modality.IMAGE: 256, Modality.VIDEO: 256, Modality.AUDIO: 228}),
        signal_separator=BLANK,
    )
    stage = DecoderAlignment(network, alignment="l2", samples=0, init_from=imported / "imported" / "adapter")
    stage.configure_model()
    stage.network.eval()
    return stage


def _expanded(numbers, case):
    """The rows with each medium's id replaced by as many places as it has groups, and padded again."""
    rows = []
    for index, (ids, labels, valid) in enumerate(
        zip(
            numbers[f"{case}.input_ids"],
            numbers[f"{case}.labels"],
            numbers[f"{case}.attention_mask"].bool(),
            strict=True,
        )
    ):
        new_ids, new_labels, slots = [], [], []
        for token, label in zip(ids[valid].tolist(), labels[valid].tolist(), strict=True):
            if token in MEDIA:
                slots.append((index, MEDIA[token], len(new_ids)))
                new_ids += [0] * GROUPS
                new_labels += [-100] * GROUPS
            else:
                new_ids.append(token)
                new_labels.append(label)
        rows.append((new_ids, new_labels, slots))
    return rows


def _batch(network, numbers, case, *, places="official") -> Batch:
    rows = _expanded(numbers, case)
    width = max(len(ids) for ids, _, _ in rows)
    padded = [
        torch.tensor([row[part] + [fill] * (width - len(row[part])) for row in rows])
        for part, fill in ((0, 0), (1, -100))
    ]
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _, _ in rows]).bool()
    batch = Batch(padded[0], mask, padded[1])
    for row, modality, start in (slot for _, _, slots in rows for slot in slots):
        features = numbers[f"{case}.media_features.{modality}"]
        media = Media(modality, lambda features=features: features[0].numpy())
        batch.slots.setdefault(modality, []).append((row, MediaSlot(modality, start, start + GROUPS, media)))
    for modality, span in network.span_ids().items():
        found = spans_in_labels(numbers[f"{case}.labels"] if places == "official" else batch.labels, span)
        if len(found[0]):
            targets = list(numbers[f"{case}.{modality}_caption_embeddings"].float())
            batch.spans[modality] = SpanTargets(*found, [""] * len(targets), targets)
    return batch


def _states_and_embeddings(network, hidden, modality, spans):
    """What the official projector reads: the states where the span was found, and the embeddings of its ids."""
    span = network.span_ids()[modality]
    states = torch.stack([hidden[r, c : c + len(span)] for r, c in zip(spans.rows, spans.starts, strict=True)])
    return states, network.llm.embed(torch.tensor(span)).expand(len(states), -1, -1)


def _official_total(stage, batch):
    """Where a medium stands in front, the official states and embeddings are not those of the same places."""
    weights, stage.weights = stage.weights, dict.fromkeys(stage.weights, 0.0)
    total = stage.model_step(batch, "train")
    stage.weights = weights
    hidden = stage.network.hidden_states(batch, stage.network.embed(batch))
    for modality, spans in batch.spans.items():
        found = _states_and_embeddings(stage.network, hidden, modality, spans)
        predicted = stage.network.output_projections[modality.value](*found)
        total = total + caption_alignment(predicted, stage.caption_embeddings(modality, spans), "l2")
    return total


@pytest.mark.parametrize("case", CASES)
def test_losses(stage, golden, case):
    expected, numbers = golden[0][case], golden[1]
    batch = _batch(stage.network, numbers, case)
    embeddings = stage.network.embed(batch)
    hidden = stage.network.hidden_states(batch, embeddings)
    valid = batch.attention_mask
    assert_golden(hidden, numbers, f"{case}.last_hidden_state", valid, **CLOSE)
    for modality, slots in batch.slots.items():
        found = torch.stack([embeddings[row, slot.start : slot.stop] for row, slot in slots])
        torch.testing.assert_close(found, numbers[f"{case}.media_projected.{modality}"], **CLOSE)
    for modality, spans in batch.spans.items():
        states, of_ids = _states_and_embeddings(stage.network, hidden, modality, spans)
        torch.testing.assert_close(states, numbers[f"{case}.{modality}.signal_hidden_states"], **CLOSE)
        torch.testing.assert_close(of_ids, numbers[f"{case}.{modality}.signal_input_embeddings"], **CLOSE)
        predicted = stage.network.output_projections[modality.value](states, of_ids)
        if case != FAULTY:
            torch.testing.assert_close(stage.network.project(modality, hidden, embeddings, spans), predicted, **CLOSE)
        loss = caption_alignment(predicted, stage.caption_embeddings(modality, spans), "l2")
        assert loss.item() == pytest.approx(expected[f"{modality}_cap_loss"], rel=1e-5)
    assert {f"{m}_cap_loss" for m in batch.spans} == {k for k, v in expected.items() if k.endswith("cap_loss") and v}
    stage.weights = dict.fromkeys(stage.weights, 0.0)
    assert stage.model_step(batch, "train").item() == pytest.approx(expected["text_loss"], rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_gradients(stage, golden, case):
    expected, numbers = golden[0][case], golden[1]
    stage.network.requires_grad_(True)  # the official numbers are of the whole model
    batch = _batch(stage.network, numbers, case)
    total = stage.model_step(batch, "train") if case != FAULTY else _official_total(stage, batch)
    assert total.item() == pytest.approx(expected["loss"], rel=1e-5)
    total.backward()
    norms = {n: p.grad.norm() for n, p in stage.network.named_parameters() if p.grad is not None}
    assert torch.stack(list(norms.values())).norm().item() == pytest.approx(expected["grad_norm_total"], rel=1e-5)
    inputs = [norm for name, norm in norms.items() if name.startswith("input_projections.")]
    found = torch.stack(inputs).norm().item() if inputs else 0.0
    assert found == pytest.approx(expected["grad_norm_input_projector"], rel=1e-5)


def test_places_of_spans_behind_a_medium_are_not_the_official_ones(stage, golden):
    """The official code reads 7 places too early; our data path does not, and gets another loss."""
    ours = _batch(stage.network, golden[1], FAULTY, places="ours")
    theirs = _batch(stage.network, golden[1], FAULTY)
    starts = [b.spans[Modality.IMAGE].starts.tolist() for b in (ours, theirs)]
    assert [a - b for a, b in zip(*starts, strict=True)] == [7, 0]
    span = stage.network.span_ids()[Modality.IMAGE]
    row, start = int(ours.spans[Modality.IMAGE].rows[0]), starts[0][0]
    assert ours.input_ids[row, start : start + 7].tolist() == span
    assert stage.model_step(ours, "train").item() != pytest.approx(golden[0][FAULTY]["loss"], rel=1e-4)


@pytest.mark.parametrize("medium", ["image", "video", "audio"])
def test_caption_loss_alone(stage, golden, medium):
    expected, numbers = golden[0]["direct"][medium], golden[1]
    labels = numbers[f"direct.{medium}.labels"]
    modality = Modality(medium)
    span = stage.network.span_ids()[modality]
    assert (len(span), span[0], span[-1]) == (expected["span_len"], expected["first_id"], expected["last_id"])
    embeddings = stage.network.llm.embed(labels.clamp(min=0))
    targets = list(numbers[f"direct.{medium}.caption_embeddings"].float())
    spans = SpanTargets(*spans_in_labels(labels, span), [""] * len(targets), targets)
    predicted = stage.network.project(modality, numbers[f"direct.{medium}.hidden_states"], embeddings, spans)
    loss = caption_alignment(predicted, stage.caption_embeddings(modality, spans), "l2")
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-5)
