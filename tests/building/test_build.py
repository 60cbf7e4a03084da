"""Builds against a server with planted faults: what is kept, dropped and counted, and what an interruption loses."""

import json
import threading

import pytest
from building_parts import Faulty, Rendered, build, endpoint, prompts, same_kinds, scenes_agree

from nextgpt_pl.building import Build, NearDuplicates, workers
from nextgpt_pl.building.pocket_server import Response, asked, serving
from nextgpt_pl.datamodules import OfficialDialogues
from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import MediaPart

FILE = "mosit_instruction_tuning.json"


def rows_of(folder):
    return json.loads((folder / FILE).read_text())


def journal_of(folder):
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def test_a_data_set_has_as_many_dialogues_as_wanted_and_its_media_agree(tmp_path):
    with serving() as url:
        totals = build(url, 20).run(tmp_path)
    rows = rows_of(tmp_path)
    assert totals.kept == len(rows) == 20
    assert all(agreeing and all(agreeing) for agreeing in scenes_agree(tmp_path).values())
    assert {f.name for f in tmp_path.iterdir()} == {FILE, "journal.jsonl", "lock", "images", "videos", "audios"}
    items = OfficialDialogues(tmp_path, [FILE]).read("train")
    assert len(items) == 20
    media = [p for item in items for m in item.messages for p in m.parts if isinstance(p, MediaPart)]
    assert len(media) == totals.media.total()
    assert all(part.media is not None for part in media)


def test_each_fault_is_counted_and_requested_again(tmp_path):
    faults = {
        0: ["prose"],
        1: ["broken"],
        2: ["schema", "surrogate"],
        3: ["kinds"],
        4: ["placeholder"],
        5: ["roles"],
        6: ["cut"],
        7: ["refused"],
        8: ["busy", "busy"],
        9: ["error"],
        10: ["drop"],
        11: ["no usage"],
        12: ["fence"],
        13: ["prose", "broken", "prose"],
    }
    with serving(server := Faulty(faults)) as url:
        totals = build(url, 16).run(tmp_path)
    assert totals.kept == 16
    assert totals.dropped == {"no usable reply": 1}
    assert dict(totals.rejected) == {
        "invalid JSON": 6,
        "JSON of another schema": 1,
        "unusable text": 1,
        "other media than requested": 1,
        "roles that do not alternate": 1,
        "cut off at max_tokens": 1,
        "refused by the model": 1,
    }
    assert totals.repeats == 4
    assert (totals.estimated, totals.refused) == (1, 0)
    assert [row["id"] for row in rows_of(tmp_path)] == [*range(13), 14, 15, 16]
    assert server.numbers[2] == 3
    assert server.numbers[12] == 1
    seeds = [r["seed"] for r in server.requests]
    assert len(set(seeds)) == len(seeds) - 4  # those that were repeated have the same


def test_near_duplicates_are_dropped_and_replaced(tmp_path):
    (first, second), *_ = same_kinds(30)
    with serving(Faulty({second: [first]})) as url:
        totals = build(url, second + 2).run(tmp_path)
    assert totals.dropped == {"near-duplicate": 1}
    assert [row["id"] for row in rows_of(tmp_path)] == [n for n in range(second + 3) if n != second]
    (dropped,) = [r for r in journal_of(tmp_path) if r.get("dropped")]
    assert dropped["detail"] == f"similarity 1.00 to dialogue {first}"


@pytest.mark.parametrize("interrupt_at", [0, 9, 30])
def test_an_interrupted_build_continues_with_the_same_result_and_asks_nothing_twice(interrupt_at, tmp_path):
    first, second = next(pair for pair in same_kinds(12) if not {1, 3} & set(pair))
    faults = {1: ["prose"], 3: ["prose", "broken", "schema"], second: [first]}
    with serving(Faulty(faults)) as url:
        build(url, 12).run(tmp_path / "whole")
    with serving(server := Faulty(faults)) as url:
        with pytest.raises(KeyboardInterrupt):
            build(url, 12, Rendered(interrupt_at)).run(tmp_path / "again")
        before = rows_of(tmp_path / "again")
        assert len(before) < 12
        with (tmp_path / "again" / "journal.jsonl").open("a") as file:
            file.write('{"kind": "reply", "number": 99')  # what a killed process leaves
        totals = build(url, 12).run(tmp_path / "again")
    assert (tmp_path / "again" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    assert rows_of(tmp_path / "again")[: len(before)] == before
    assert server.numbers == {**dict.fromkeys(range(14), 1), 1: 2, 3: 3}
    assert totals.tokens_in == sum(r["tokens_in"] for r in journal_of(tmp_path / "again") if r["kind"] == "reply")
    for file in (tmp_path / "whole").rglob("*_*.*"):
        assert file.relative_to(tmp_path / "whole").parts[0].endswith("s") or file.name == FILE
        assert (tmp_path / "again" / file.relative_to(tmp_path / "whole")).is_file()


def test_a_finished_build_asks_nothing_and_a_larger_one_asks_for_the_rest(tmp_path):
    with serving(server := Faulty()) as url:
        build(url, 5).run(tmp_path)
        before = rows_of(tmp_path)
        build(url, 5).run(tmp_path)
        assert server.numbers.total() == 5
        build(url, 8).run(tmp_path, limit=2)
        assert server.numbers.total() == 7
    assert rows_of(tmp_path)[:5] == before
    assert len(rows_of(tmp_path)) == 7


def test_no_more_is_requested_than_is_needed(tmp_path):
    with serving(server := Faulty({0: ["prose"] * 3})) as url:
        totals = build(url, 2).run(tmp_path)
    assert (totals.kept, totals.dropped.total()) == (2, 1)
    assert server.numbers == {0: 3, 1: 1, 2: 1}


def test_a_dialogue_without_a_medium_is_dropped_with_the_reason(tmp_path):
    class Nothing(Rendered):
        def find(self, wanted):
            return [None] * len(wanted)

    media = {"image": [Nothing()], "video": [Rendered()], "audio": [Nothing(), Rendered()]}
    with serving() as url:
        totals = Build(endpoint(url), prompts(), media, 6, max_dropped=1.0).run(tmp_path)
    assert set(totals.dropped) == {"no image found"}
    assert totals.kept == 6
    assert not (tmp_path / "images").exists()


def test_a_build_that_drops_most_of_its_dialogues_ends(tmp_path):
    with (
        serving(Faulty({n: ["prose"] for n in range(100)})) as url,
        pytest.raises(UserError, match=r"max_dropped=0\.5: 20 of 20 dialogues were dropped"),
    ):
        build(url, 50, tries=1).run(tmp_path)
    assert rows_of(tmp_path) == []


def test_costs_are_counted_and_projected(tmp_path, capsys):
    def respond(request):
        response = faulty(request)
        response.body["usage"].update(prompt_tokens=1_000_000, completion_tokens=500_000)
        return response

    faulty = Faulty({0: ["prose"]})
    with serving(respond) as url:
        priced = endpoint(url, input_price=2.0, output_price=8.0)
        media = {m: [Rendered()] for m in ("image", "video", "audio")}
        totals = Build(priced, prompts(), media, 10).run(tmp_path, limit=4)
    assert totals.cost(priced) == pytest.approx(5 * (2.0 + 4.0))  # 4 dialogues, one of them by two replies
    assert totals.projected(priced, 10) == pytest.approx(30 * 10 / 4)
    assert "cost: 30.0000 for 5,000,000 tokens in, 2,500,000 out" in capsys.readouterr().out


def test_an_endpoint_that_fails_ends_the_build_and_keeps_what_is_there(tmp_path):
    def respond(request):
        if len(server.requests) >= 3:
            return Response(401, {"error": {"message": "quota of key secret-123 exceeded"}})
        return server(request)

    server = Faulty()
    with serving(respond) as url, pytest.raises(UserError, match=r"status 401: .*quota"):
        build(url, 8).run(tmp_path)
    assert len(rows_of(tmp_path)) <= 3
    assert sum(record["kind"] == "reply" for record in journal_of(tmp_path)) == 3
    with serving(server) as url:
        build(url, 8).run(tmp_path)
    assert len(rows_of(tmp_path)) == 8
    assert max(server.numbers.values()) == 1


def test_a_second_interrupt_does_not_wait_for_the_replies_under_way(tmp_path, monkeypatch):
    def respond(request):
        if asked(request).number > 0:
            late.wait(30)
        return server(request)

    def interrupted(futures):
        assert len(list(futures)) == 3
        raise KeyboardInterrupt

    server, late = Faulty(), threading.Event()
    monkeypatch.setattr(workers, "wait", interrupted)
    with serving(respond) as url:
        try:
            with pytest.raises(KeyboardInterrupt):
                build(url, 4, Rendered(interrupt_at=0)).run(tmp_path)
            assert [record["number"] for record in journal_of(tmp_path)] == [0]
            assert rows_of(tmp_path) == []
        finally:
            late.set()


def test_near_duplicates_can_be_allowed(tmp_path):
    (first, second), *_ = same_kinds(30)
    with serving(Faulty({second: [first]})) as url:
        totals = build(url, second + 2, duplicates=NearDuplicates(threshold=1.1)).run(tmp_path)
    assert not totals.dropped


def test_a_broken_journal_is_named(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"kind": "reply"}\n')
    with serving() as url, pytest.raises(UserError, match=r"journal\.jsonl: line 1 is no record"):
        build(url, 2).run(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count=0: at least 1"),
        ({"media": {"image": [Rendered()]}}, "media.video: prompts.kinds has video"),
        ({"media": {m: [Rendered()] for m in ("image", "video", "audio", "smell")}}, "media.smell: no kind of"),
    ],
)
def test_invalid_arguments_are_named(options, message):
    media = {m: [Rendered()] for m in ("image", "video", "audio")}
    with pytest.raises(UserError, match=message):
        Build(**{"endpoint": endpoint("pocket:"), "prompts": prompts(), "media": media, "count": 3, **options})
