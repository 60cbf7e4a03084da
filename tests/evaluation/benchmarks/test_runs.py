"""The YAMLs of benchmarks, a run of the package's model on pocket prompts, and an LLM as judge from end to end."""

import json
from pathlib import Path

import pytest
import yaml
from judged_benchmarks import Painter

from nextgpt_pl.building.pocket_server import Response, completion, serving
from nextgpt_pl.evaluation import benchmarks, report, run
from nextgpt_pl.evaluation.judges import kept
from nextgpt_pl.verbs import evaluation

EVAL = Path("experiments/eval")


@pytest.mark.parametrize(("name", "count"), [("benchmarks", 7), ("pocket_benchmarks", 2)])
def test_every_yaml_says_how_to_run_it_and_instantiates(name, count):
    file = EVAL / f"{name}.yaml"
    assert f"python -m nextgpt_pl test -c {file}" in file.read_text().split("tasks:")[0]
    tasks = evaluation.tasks_of(*evaluation.parse("test", ["-c", str(file)]))
    assert len(tasks) == count
    assert all(task.scores for task in tasks)
    assert all(bool(task.missing()) == (name == "benchmarks") for task in tasks)


def test_all_benchmarks_are_in_the_yaml():
    named = {
        task["class_path"].rsplit(".", 1)[1] for task in yaml.safe_load((EVAL / "benchmarks.yaml").read_text())["tasks"]
    }
    assert named == set(benchmarks.__all__) - {"Benchmark"}


def test_items_of_the_pocket_files_are_whole():
    for task in evaluation.tasks_of(*evaluation.parse("test", ["-c", str(EVAL / "pocket_benchmarks.yaml")])):
        items = list(task.items())
        assert items
        assert not [item.fault for item in items if item.fault]


def test_an_llm_judges_over_the_protocol_and_every_printed_score_names_it(tmp_path, capsys):
    root = tmp_path / "geneval"
    root.mkdir()
    prompt = "a large pink star in the center on a white background"
    row = {"tag": "single_object", "include": [{"class": "star", "count": 1}], "prompt": prompt}
    (root / "evaluation_metadata.jsonl").write_text(json.dumps(row) + "\n")
    asked = []

    def answer(request):
        asked.append(request["messages"][1]["content"][0]["text"])
        return Response(200, completion(json.dumps({"reason": "it is there", "yes": 1}), "?"))

    with serving(answer) as url:
        endpoint = {"base_url": url, "model": "made-up", "key_variable": None, "temperature": 0.0}
        judge = {"class_path": "nextgpt_pl.evaluation.judges.EndpointJudge", "init_args": {"endpoint": endpoint}}
        task = {"class_path": "nextgpt_pl.evaluation.benchmarks.GenEval"}
        task["init_args"] = {"root": str(root), "judges": [judge]}
        file = tmp_path / "judged.yaml"
        file.write_text(yaml.safe_dump({"tasks": [task]}))
        (own,) = evaluation.tasks_of(*evaluation.parse("test", ["-c", str(file)]))
        run.predict(Painter(), [own], tmp_path, temperature=0.0, seed=0)
        record = run.score([own], tmp_path)
    assert "- at least 1 of star" in asked[0]
    # the second time nothing is asked, and there is no server
    assert run.score([own], tmp_path) == record
    shown = [row[1] for row in report.rows(record)]
    assert len(asked) == 1
    assert all(name.endswith(f"[made-up at {url}, temperature 0, wording 1]") for name in shown)
    (line,) = (tmp_path / kept.FILE).read_text().splitlines()
    assert json.loads(line)["values"] == {"yes": 1.0}


@pytest.mark.slow
def test_the_packages_model_draws_what_pocket_prompts_ask_for(tmp_path, capsys):
    file = EVAL / "pocket_benchmarks.yaml"
    evaluation.test(["test", "-c", str(file), "--run", "pocket:chat", "--out", str(tmp_path / "out")])
    tasks = json.loads((tmp_path / "out" / run.SCORES).read_text())["tasks"]
    geneval, dpg = (task["scores"] for task in tasks.values())
    assert geneval["single_object [exact judge 1]"]["value"] == 1.0
    assert geneval["colors [exact judge 1]"]["value"] == 1.0
    assert geneval["overall [exact judge 1]"]["value"] > 0.7
    assert geneval["overall [exact judge 1]"]["count"] == 24
    assert dpg["DPG-Bench score [exact judge 1]"]["value"] > 70
    assert dpg["entity [exact judge 1]"]["value"] > 90
    assert "overall [pocket ImageBind, yes from 0.8, 1]" in geneval
    printed = capsys.readouterr().out
    assert "overall [exact judge 1]  0." in printed
