import io
import json
import logging
import os
import tarfile
import time
from collections import Counter
from itertools import chain

import numpy as np
import pytest
from groups import groups_of
from shards import served, write_shard

from nextgpt_pl.datamodules import CaptionedPairs, Dialogues, PocketDialogues, StreamedShards
from nextgpt_pl.datamodules.kinds import Groups
from nextgpt_pl.datamodules.samplers import MixedSampler
from nextgpt_pl.datamodules.stream_order import Stream
from nextgpt_pl.datamodules.usable import UsableRows
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.remote import ShardFolder, shard_names


@pytest.fixture
def folder(tmp_path):
    """Shards of 10 and of 20 samples."""
    write_shard(tmp_path / "s" / "0.tar", range(10))
    write_shard(tmp_path / "s" / "1.tar", range(10, 30))
    return tmp_path / "s"


def _source(folder, tmp_path, shards=("{0..1}.tar",), **options):
    names = [name if "://" in name else str(folder / name) for name in shards]
    return StreamedShards(names, folder=tmp_path / "kept", **options)


def _data(source, tokenizer, read=None, **options):
    data = Dialogues(source if isinstance(source, list) else [source], batch_size=4, **options)
    return data.with_renderer(Conversation(tokenizer, {}, {Modality.IMAGE: 1}), read)


def _numbers(batches, tokenizer):
    """The number that each dialogue's answer tells, per batch."""
    found = []
    for batch in batches:
        texts = [tokenizer.decode(ids) for ids in batch.input_ids]
        found.append([int(text.partition("number")[2].split("<")[0].replace(" ", "")) for text in texts])
    return found


class _Reader:
    """Reads each image and keeps nothing."""

    def open_stores(self):
        pass

    def __call__(self, row):
        for slot in row.slots:
            array_of(slot.media)
        return row


def _flat(batches):
    return list(chain.from_iterable(batches))


def _of_ranks(data, world_size, tokenizer, monkeypatch):
    parts = []
    for rank in range(world_size):
        monkeypatch.setattr(data, "_rank_and_world_size", lambda rank=rank: (rank, world_size))
        parts.append(_numbers(data.train_dataloader(), tokenizer))
    return parts


def test_uneven_shards_give_each_rank_equally_many_and_each_sample_once(
    folder, tmp_path, pocket_tokenizer, monkeypatch
):
    data = _data(_source(folder, tmp_path), pocket_tokenizer)
    first, second = _of_ranks(data, 2, pocket_tokenizer, monkeypatch)
    assert [len(batch) for batch in first] == [len(batch) for batch in second] == [4, 4, 4, 3]
    assert sorted(_flat([*first, *second])) == list(range(30))


def test_epochs_differ_and_a_seed_gives_the_same_order(folder, tmp_path, pocket_tokenizer):
    loaders = [_data(_source(folder, tmp_path), pocket_tokenizer).train_dataloader() for _ in range(2)]
    epochs = [[], []]
    for epoch in range(2):
        for loader, found in zip(loaders, epochs, strict=True):
            loader.batch_sampler.set_epoch(epoch)
            found.append(_flat(_numbers(loader, pocket_tokenizer)))
    assert epochs[0] == epochs[1]
    assert epochs[0][0] != epochs[0][1]
    assert sorted(epochs[0][0]) == sorted(epochs[0][1]) == list(range(30))


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0)])
def test_a_stream_resumes_in_mid_epoch_with_any_number_of_workers(before, after, folder, tmp_path, pocket_tokenizer):
    def loader(workers):
        data = _data(_source(folder, tmp_path), pocket_tokenizer, num_workers=workers)
        found = data.train_dataloader()
        found.batch_sampler.set_epoch(3)
        return found

    whole = _numbers(loader(0), pocket_tokenizer)
    first, used = loader(before), []
    for batch in first:
        used.append(batch)
        if len(used) == 3:
            state = first.state_dict()
            break
    second = loader(after)
    second.load_state_dict(state)
    assert _numbers(used, pocket_tokenizer) + _numbers(second, pocket_tokenizer) == whole


def test_the_order_needs_few_shards_at_a_time_and_ranks_read_shards_of_their_own():
    stream = Stream(0, np.arange(100, 2001, 100), 150)
    order = stream.order(np.random.default_rng(0))
    assert sorted(order) == list(range(2000))
    shards = order // 100
    assert max(len(set(shards[i : i + 50])) for i in range(2000)) <= 5
    assert min(len(set(shards[i : i + 50])) for i in range(200, 1800)) >= 2
    groups = Groups(np.zeros(2000, np.int32), ("x",))
    parts = [
        {i // 100 for batch in MixedSampler(groups, 8, rank=rank, world_size=4, streams=[stream]) for i in batch}
        for rank in range(4)
    ]
    assert max(len(part) for part in parts) <= 9
    assert sum(len(part) for part in parts) <= 20 + 4 * 4


def test_streams_and_other_sources_are_mixed_by_weights(folder, tmp_path, pocket_tokenizer):
    streams = _source(folder, tmp_path, name="stream")
    other = PocketDialogues(train_size=170, val_size=1, routes=["text->text"])
    data = _data([streams, other], pocket_tokenizer, weights={"stream": 3.0, "pocket": 1.0})
    indices = [i for batch in data.train_dataloader().batch_sampler for i in batch]
    assert len(indices) == 200
    drawn = Counter(i for i in indices if i < 30)
    # three of seven shares: the pocket world has four kinds of replies, with a share of one each
    assert 60 < drawn.total() < 112
    # the stream starts again only after all of its samples
    assert max(drawn.values()) - min(drawn.values()) <= 1
    unweighted = _data([streams, other], pocket_tokenizer)
    assert sorted(i for batch in unweighted.train_dataloader().batch_sampler for i in batch) == list(range(200))


def test_shards_are_fetched_by_url_once_and_counted_once(folder, tmp_path, pocket_tokenizer):
    with served(folder) as (address, asked):
        urls = [f"{address}/{{0..1}}.tar"]
        data = _data(_source(folder, tmp_path, urls), pocket_tokenizer, num_workers=2)
        assert sorted(_flat(_numbers(data.train_dataloader(), pocket_tokenizer))) == list(range(30))
        again = _data(_source(folder, tmp_path, urls), pocket_tokenizer)
        assert len(again.items("train")) == 30
    assert sorted(asked) == ["0.tar", "1.tar"]


def test_fetched_shards_that_are_not_in_use_are_deleted_above_the_limit(folder, tmp_path, caplog):
    with served(folder) as (address, asked):
        store = ShardFolder(tmp_path / "kept", (folder / "1.tar").stat().st_size)
        first = store.local(f"{address}/0.tar")
        with caplog.at_level(logging.WARNING):
            second = store.local(f"{address}/1.tar")
        assert "in use" in caplog.text
        assert first.is_file()
        assert second.read_bytes() == (folder / "1.tar").read_bytes()
        old = time.time() - 1000
        os.utime(first, (old, old))
        second.unlink()
        store.local(f"{address}/1.tar")
        assert not first.exists()
        assert store.local(f"{address}/0.tar").read_bytes() == (folder / "0.tar").read_bytes()
    assert asked == ["0.tar", "1.tar", "1.tar", "0.tar"]


def test_a_shard_that_was_deleted_while_its_items_are_known_is_fetched_again(folder, tmp_path):
    with served(folder) as (address, _):
        items = _source(folder, tmp_path, [f"{address}/0.tar"]).read("train")
        medium = items[3].messages[0].parts[0].media
        medium.source.path.unlink()
        assert items[3].messages[0].parts[0].media.source.read()


def test_missing_and_damaged_shards_are_named_or_skipped_and_counted(folder, tmp_path, pocket_tokenizer):
    whole = (folder / "1.tar").read_bytes()
    (folder / "2.tar").write_bytes(whole[: len(whole) // 2])
    write_shard(folder / "3.tar", range(40, 45), without_answer=[42])
    with served(folder) as (address, _):
        urls = [f"{address}/{{0..4}}.tar"]
        with pytest.raises(UserError) as error:
            _source(folder, tmp_path, urls).read("train")
        for words in ("2.tar, row ", "3.tar, row 2", "no turn of the assistant", "4.tar: cannot be fetched"):
            assert words in str(error.value)
        source = _source(folder, tmp_path, urls, on_error="skip")
        data = _data(source, pocket_tokenizer)
        found = Counter(_flat(_numbers(data.train_dataloader(), pocket_tokenizer)))
    assert set(range(30)) | {40, 41, 43, 44} == set(found)
    assert source.report.split_counts == (found.total(), 3)


def test_an_unreadable_sample_is_replaced_by_one_of_its_shard(folder, tmp_path, pocket_tokenizer):
    write_shard(folder / "0.tar", range(10), broken=[4])

    data = _data(_source(folder, tmp_path, on_error="skip"), pocket_tokenizer, _Reader())
    batches = list(data.train_dataloader())
    found = Counter(_flat(_numbers(batches, pocket_tokenizer)))
    assert found[4] == 0
    assert sum(found[number] for number in range(10)) == 10
    notes = [note for batch in batches for note in batch.notes]
    assert len(set(notes)) == 1  # a draw may hit it again
    assert "0.tar, row 4" in notes[0].reason


def test_a_shard_that_vanishes_during_training_is_replaced_by_others(folder, tmp_path, pocket_tokenizer):
    with served(folder) as (address, _):
        source = _source(folder, tmp_path, [f"{address}/{{0..1}}.tar"], on_error="skip")
        data = _data(source, pocket_tokenizer)
        loader = data.train_dataloader()
        (folder / "0.tar").unlink()
        for file in (tmp_path / "kept").glob("*-0.tar"):
            file.unlink()
        batches = list(loader)
    numbers = _flat(_numbers(batches, pocket_tokenizer))
    assert len(numbers) == 30
    assert set(numbers) <= set(range(10, 30))
    assert {note.key for batch in batches for note in batch.notes} == {f"{address}/0.tar"}


def test_a_shard_that_has_changed_is_counted_again_and_refused_while_it_is_read(folder, tmp_path):
    items = _source(folder, tmp_path).read("train")
    write_shard(folder / "1.tar", range(10, 25))
    with pytest.raises(UserError, match=r"1\.tar: it has 15 items, 20 were counted"):
        items[12]
    assert len(_source(folder, tmp_path).read("train")) == 25


def test_an_interrupted_count_goes_on(folder, tmp_path):
    _source(folder, tmp_path).read("train")
    (counts,) = (tmp_path / "kept").glob("counts-*.jsonl")
    lines = counts.read_text().splitlines()
    values = {**json.loads(lines[0]), "items": 7}  # to see that it is taken from the file
    counts.write_text(json.dumps(values) + "\n" + lines[1][:20])
    assert len(_source(folder, tmp_path).read("train")) == 7 + 20


def test_validation_reads_shards_of_its_own(folder, tmp_path, pocket_tokenizer):
    data = _data(_source(folder, tmp_path, ["0.tar"], val_shards=[str(folder / "1.tar")]), pocket_tokenizer)
    assert sorted(_flat(_numbers(data.train_dataloader(), pocket_tokenizer))) == list(range(10))
    assert _flat(_numbers(data.val_dataloader(), pocket_tokenizer)) == list(range(10, 30))
    with pytest.raises(UserError, match=r"val_shards: .*0\.tar is one of the training shards"):
        _source(folder, tmp_path, val_shards=[str(folder / "0.tar")]).read("train")


def test_captioned_pairs_are_streamed_and_samples_without_a_download_are_left_out_and_counted(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for number, status in enumerate(["success", "failed_to_download", "success"]):
            for ending, content in {
                "txt": b"a red circle",
                "png": b"x",
                "json": json.dumps({"status": status}).encode(),
            }.items():
                info = tarfile.TarInfo(f"{number}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    source = StreamedShards([str(tmp_path / "0.tar")], folder=tmp_path / "kept")
    for _ in range(2):  # the second time from the file of counts
        items = CaptionedPairs([source]).items("train")
        assert [item.caption for item in items] == ["a red circle"] * 2
        assert source.report.notes == ["1 rows are left out: status 'failed_to_download'"]


def test_names_are_ranges_globs_and_urls(folder, tmp_path):
    assert shard_names(["s3://b/{08..10}.tar"]) == [f"s3://b/{n}.tar" for n in ("08", "09", "10")]
    assert shard_names([f"{folder}/*.tar"]) == [f"{folder}/0.tar", f"{folder}/1.tar"]
    with pytest.raises(UserError, match="matches no file"):
        shard_names([f"{folder}/*.zip"])
    with pytest.raises(UserError, match=r"no-such://x/0\.tar: .*nextgpt-pl\[streaming\]"):
        ShardFolder(tmp_path, 0).local("no-such://x/0.tar")


def test_a_cache_is_filled_in_the_order_of_the_shards():
    """Group by group, each shard would be fetched once per group."""
    groups = groups_of(["a", "b", "a", "b", "a", "b", "a"])
    items = ["item"] * 7
    stream = Stream(2, np.array([2, 3]), 4)
    assert UsableRows(items, groups, [(0, "skip")], None, "train", [stream]).by_group().tolist() == [
        2,
        3,
        4,
        0,
        6,
        1,
        5,
    ]
    assert UsableRows(items, groups, [(0, "skip")], None, "train").by_group().tolist() == [0, 2, 4, 6, 1, 3, 5]
