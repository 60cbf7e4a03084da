import gc
from collections import Counter

import pytest
import torch
from groups import groups_of
from lightning.pytorch import LightningModule, Trainer

from nextgpt_pl.datamodules.samplers import MixedSampler, ResumableLoader, RowLoader
from nextgpt_pl.modality import Modality

ITEMS = [Modality.IMAGE] * 30 + [Modality.AUDIO] * 10
GROUPS = groups_of(ITEMS)


def test_an_epoch_shows_each_item_once_in_another_order_each_time():
    sampler = MixedSampler(GROUPS, 7)
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        epochs.append([i for batch in sampler for i in batch])
    assert all(sorted(e) == list(range(40)) for e in epochs)
    assert epochs[0] != epochs[1]


def test_weights_set_the_mixture():
    sampler = MixedSampler(groups_of(ITEMS * 50), 8, {Modality.IMAGE: 1.0, Modality.AUDIO: 3.0})
    counts = Counter((ITEMS * 50)[i] for batch in sampler for i in batch)
    assert 0.7 < counts[Modality.AUDIO] / counts.total() < 0.8


def test_processes_get_disjoint_items_and_equally_many_batches():
    parts = [[i for b in MixedSampler(groups_of(ITEMS[:39]), 4, rank=r, world_size=2) for i in b] for r in range(2)]
    assert len(parts[0]) == len(parts[1]) == 20
    assert set(parts[0]) | set(parts[1]) == set(range(39))


def test_forked_workers_do_not_collect_the_objects_of_their_parent():
    loader = RowLoader(
        [0, 1], num_workers=1, collate_fn=lambda _: gc.get_freeze_count(), multiprocessing_context="fork"
    )
    assert all(count > 1000 for count in loader)
    assert gc.get_freeze_count() == 0


def _loader(workers=0):
    return ResumableLoader(list(range(40)), batch_sampler=MixedSampler(GROUPS, 4), collate_fn=list, num_workers=workers)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 0), (0, 2), (2, 1), (1, 2)])
def test_a_loader_resumes_in_mid_epoch_with_any_number_of_workers(before, after):
    uninterrupted = _loader()
    whole, after_it = list(uninterrupted), list(uninterrupted)
    first = _loader(workers=before)
    used = []
    for batch in first:
        used.append(batch)
        if len(used) == 3:
            state = first.state_dict()
            break
    second = _loader(workers=after)
    second.load_state_dict(state)
    assert second.state_dict() == state  # a checkpoint may be saved before the first batch
    assert used + list(second) == whole
    assert list(second) == after_it != whole


@pytest.mark.parametrize("limit", [1.0, 6, 0.6])
def test_the_end_of_an_epoch_is_the_beginning_of_the_next_one(limit):
    def loader():
        sampler = MixedSampler(GROUPS, 4)
        return ResumableLoader(list(range(40)), batch_sampler=sampler, collate_fn=list, limit=limit)

    first, second, end = loader(), loader(), 10 if limit == 1.0 else 6
    for number, _ in enumerate(first, 1):
        if number == end:
            break
    assert first.state_dict() == {"batches": 0, "epoch": 1}
    second.load_state_dict(first.state_dict())
    assert list(second) == list(first)


class _Seen(LightningModule):
    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

    def training_step(self, batch, _):
        self.seen.append(batch)
        return self.weight * 1.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_in_training_each_epoch_has_an_order_of_its_own(tmp_path):
    module = _Seen()
    Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    ).fit(module, _loader())
    epochs = [module.seen[i : i + 10] for i in (0, 10, 20)]
    for number, epoch in enumerate(epochs):
        sampler = MixedSampler(GROUPS, 4)
        sampler.set_epoch(number)
        assert epoch == list(sampler)
