"""A run that is loaded is data: whatever its YAML names, only classes of this package are made."""

import importlib
import inspect
import pkgutil
import sys
import typing
from pathlib import Path

import pytest
import yaml

import nextgpt_pl
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.tasks import Task
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.pocket.mel import compressed_mel
from nextgpt_pl.saved_network import foreign_classes, network_of
from nextgpt_pl.verbs.evaluation import evaluate

POCKET = yaml.safe_load((Path(__file__).parent.parent.parent / "experiments" / "models" / "pocket.yaml").read_text())
SPEC = {"class_path": "planted.Planted", "init_args": {"args": "touch x", "shell": True}}
EVIL = {
    "class": SPEC,
    "bare class": {"class_path": "planted.Planted"},
    "class with arguments of a dictionary": {"class_path": "planted.Planted", "dict_kwargs": {"a": 1}},
    "in a list": [SPEC],
    "in a mapping": {"width": SPEC},
    "deep": {"a": [{"b": [SPEC]}]},
    "as text": yaml.safe_dump(SPEC),
    "as text, escaped": '{"class\\x5fpath": "planted.Planted"}',
    "in a mapping, as text": {"width": '{"class_path": "planted.Planted"}'},
    "in a mapping, as text in text": {"width": '"{class_path: planted.Planted}"'},
    "name of a class": "planted.Planted",
    "name of a function": "planted.planted_function",
    "a module's import": "nextgpt_pl.evaluation.tasks.planted.Planted",
}
PLAIN = (str, int, float, bool, type(None), Path, dict, list, tuple)


def _modules():
    for module in pkgutil.walk_packages(nextgpt_pl.__path__, "nextgpt_pl."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                # the page of the extra demo and the plugin of lmms-eval, which define no class that a YAML names
                if error.name not in ("gradio", "lmms_eval"):
                    raise


def _subclasses(base):
    return {base}.union(*(_subclasses(c) for c in base.__subclasses__()))


def _kinds(target):
    """The classes of this package in a class's annotations, and its fields."""
    fields, found = {}, set()
    for maker in [vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c)]:
        if maker is object.__init__:
            continue
        fields |= {n: t for n, t in typing.get_type_hints(maker).items() if n not in {"return", *fields}}
        if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(maker).parameters.values()):
            break
    stack = list(fields.values())
    while stack:
        kind = stack.pop()
        stack += [part for part in typing.get_args(kind) if not isinstance(part, str)]
        if inspect.isclass(kind) and kind.__module__.startswith("nextgpt_pl.") and not issubclass(kind, PLAIN):
            found.add(kind)
    return fields, found


def _nameable(root):
    """Every concrete class that a configuration of ``root`` can name, with the base that its field declares."""
    _modules()
    bases, seen, todo = {}, set(), [root]
    while todo:
        base = todo.pop()
        if base in seen:
            continue
        seen.add(base)
        for target in sorted(_subclasses(base), key=lambda c: c.__qualname__):
            if target.__module__.startswith("nextgpt_pl.") and not inspect.isabstract(target):
                bases.setdefault(target, base)
                todo += sorted(_kinds(target)[1], key=lambda c: c.__qualname__)
    return bases


def _spec(target, **arguments):
    return {"class_path": f"{target.__module__}.{target.__qualname__}", "init_args": arguments}


def _network(**arguments):
    return {**POCKET, "init_args": {**POCKET["init_args"], **arguments}}


def _gallery(source):
    embeddings = {"class_path": "nextgpt_pl.decoders.PrecomputedEmbeddings", "init_args": {"shape": [8]}}
    arguments = {"decoder": embeddings, "modality": "image", "source": source}
    return {"class_path": "nextgpt_pl.decoders.gallery.GalleryDecoder", "init_args": arguments}


NETWORKS = {
    "NextGPT": lambda spec: spec,
    "CausalLM": lambda spec: _network(llm=spec),
    "Decoder": lambda spec: _network(decoders={"image": spec}),
    "Encoder": lambda spec: _network(encoder=spec),
    "InputProjection": lambda spec: _network(input_projection=spec),
    "OutputProjection": lambda spec: _network(output_projection=spec),
    "ItemSource": lambda spec: _network(decoders={"image": _gallery(spec)}),
    "FeatureCache": None,  # never read of a run
}
ROUTE = "nextgpt_pl.evaluation.PocketRoute"
FRECHET = "nextgpt_pl.evaluation.Frechet"
GENEVAL = "nextgpt_pl.evaluation.benchmarks.GenEval"
WORD_ERRORS = "nextgpt_pl.evaluation.WordErrors"
ENDPOINT_JUDGE = "nextgpt_pl.evaluation.judges.EndpointJudge"
TASKS = {
    "Task": lambda spec: spec,
    "Score": lambda spec: {"class_path": ROUTE, "init_args": {"route": "brief", "scores": [spec]}},
    "Extractor": lambda spec: TASKS["Score"]({"class_path": FRECHET, "init_args": {"name": "x", "extractor": spec}}),
    "Judge": lambda spec: {"class_path": GENEVAL, "init_args": {"root": "x", "judges": [spec]}},
    "Endpoint": lambda spec: TASKS["Judge"]({"class_path": ENDPOINT_JUDGE, "init_args": {"endpoint": spec}}),
    "Recogniser": lambda spec: TASKS["Score"]({"class_path": WORD_ERRORS, "init_args": {"recogniser": spec}}),
    "WordsDecoder": lambda spec: {
        "class_path": "nextgpt_pl.evaluation.ReadAloud",
        "init_args": {"decoder": spec, "texts": ["one"], "scores": []},
    },
    "DataFiles": lambda spec: {
        "class_path": "nextgpt_pl.evaluation.Captioning",
        "init_args": {"name": "x", "data": spec, "scores": []},
    },
}


@pytest.fixture(autouse=True)
def _nothing_planted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("planted", None)
    yield
    sys.modules.pop("planted", None)


def _refused_or_plain(read, target, field):
    """Plants everything in one field: no value may import what it names, and a class is refused by the field's name."""
    for how, evil in EVIL.items():
        error = None
        try:
            read(_spec(target, **{field: evil}))
        except UserError as caught:
            error = str(caught)
        assert error or isinstance(evil, str), f"{target.__name__}.{field} took a class {how}"
        assert not error or field in error or "planted" not in error, (target, field, how, error)
        assert "planted" not in sys.modules, f"{target.__name__}.{field} imported a class {how}"


@pytest.mark.parametrize("target", _nameable(NextGPT), ids=lambda c: c.__name__)
def test_no_field_of_a_network_names_foreign_code(target):
    host = NETWORKS.get(_nameable(NextGPT)[target].__name__, KeyError)
    assert host is not KeyError, "a configuration can name a new kind of class: say above where"
    for field in _kinds(target)[0] if host else ():
        if field != "cache":
            _refused_or_plain(lambda spec: network_of({"model": {"init_args": {"network": host(spec)}}}), target, field)


@pytest.mark.parametrize("target", _nameable(Task), ids=lambda c: c.__name__)
def test_no_field_of_an_evaluation_names_foreign_code(target, tmp_path):
    host = TASKS[_nameable(Task)[target].__name__]

    def read(spec):
        (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump({"tasks": [host(spec)]}))
        (tmp_path / "predictions.jsonl").write_text("")
        evaluate(["evaluate", str(tmp_path)])

    for field in _kinds(target)[0]:
        _refused_or_plain(read, target, field)


def _folder(tmp_path, network):
    (tmp_path / "adapter").mkdir(exist_ok=True)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"network": network}}}))
    return tmp_path


@pytest.mark.parametrize("read", [AnyToAny.from_run, AnyToAny.from_pretrained])
@pytest.mark.parametrize("name", ["sampling", "scheduler_args", "spectrogram"])
def test_a_strangers_folder_runs_nothing(read, name, tmp_path):
    network = yaml.safe_load(yaml.safe_dump(POCKET))
    value = "planted.planted_function" if name == "spectrogram" else {"width": SPEC}
    network["init_args"]["decoders"]["audio"]["init_args"][name] = value
    with pytest.raises(UserError, match=f"model.network.decoders.audio.{name}.*planted"):
        read(_folder(tmp_path, network))
    assert "planted" not in sys.modules


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nextgpt_pl.utils.distributed.all_reduce_sum", "one of nextgpt_pl.decoders.spectrogram.log_mel"),
        ("nextgpt_pl.decoders.spectrogram.torch.hub.load", "one of"),
        ("os.system", "one of"),
    ],
)
def test_functions_are_those_of_the_list(name, reason):
    network = yaml.safe_load(yaml.safe_dump(POCKET))
    network["init_args"]["decoders"]["audio"]["init_args"]["spectrogram"] = name
    with pytest.raises(UserError, match=f"spectrogram: '{name}' is refused.*{reason}"):
        network_of({"model": {"init_args": {"network": network}}})


def test_classes_of_this_package_fit_their_field():
    for name in (
        "nextgpt_pl.stages.DecoderAlignment",
        "nextgpt_pl.llm.CausalLM",
        "nextgpt_pl.training.runs.Path",
    ):
        with pytest.raises(UserError, match=r"network\.encoder.*is expected"):
            network_of({"model": {"init_args": {"network": _network(encoder={"class_path": name})}}})


def test_a_configuration_reads_neither_files_nor_the_environment(tmp_path, monkeypatch):
    (tmp_path / "llm.yaml").write_text(yaml.safe_dump(POCKET["init_args"]["llm"]))
    with pytest.raises(UserError, match=r"network\.llm: 'llm\.yaml' is refused"):
        network_of({"model": {"init_args": {"network": _network(llm="llm.yaml")}}})
    (tmp_path / "sampling.yaml").write_text("{height: 64}")
    decoder = {**POCKET["init_args"]["decoders"]["image"]["init_args"], "sampling": "sampling.yaml"}
    image = {"class_path": "nextgpt_pl.decoders.DiffusionDecoder", "init_args": decoder}
    with pytest.raises(UserError, match="sampling: a text is not expected"):
        network_of({"model": {"init_args": {"network": _network(decoders={"image": image})}}})
    monkeypatch.setenv("SECRET", "pocket:llm")
    llm = {"class_path": "nextgpt_pl.llm.CausalLM", "init_args": {"path": "${oc.env:SECRET}"}}
    found = network_of({"model": {"init_args": {"network": _network(llm=llm)}}})
    assert found.llm.path == "${oc.env:SECRET}"


def test_what_the_caller_trusts_is_made(tmp_path):
    projection = {"class_path": "planted.PlantedProjection", "init_args": {"width": 8}}
    config = {"model": {"init_args": {"network": _network(output_projection=projection)}}}
    with pytest.raises(UserError, match=r"trust=\['planted.PlantedProjection'\], or --trust planted.PlantedProjection"):
        network_of(config)
    found = network_of(config, trust=["planted.PlantedProjection"])
    assert found.output_projection_factory(4, 2, 3, 5).__class__.__name__ == "PlantedProjection"
    network = yaml.safe_load(yaml.safe_dump(POCKET))
    network["init_args"]["decoders"]["audio"]["init_args"]["spectrogram"] = "planted.planted_function"
    trusted = network_of({"model": {"init_args": {"network": network}}}, trust=["planted.planted_function"])
    assert (
        next(d for d in trusted.decoders.values() if hasattr(d, "spectrogram")).spectrogram.__name__
        == "planted_function"
    )
    with pytest.raises(UserError, match="trust='Encoder': a dotted name is expected"):
        network_of(config, trust=["Encoder"])


def test_all_foreign_names_are_refused_at_once():
    inner = {"class_path": "planted.Inner", "init_args": {"parts": [{"class_path": "planted.Innermost"}]}}
    encoder = {"class_path": "planted.Planted", "init_args": {"backbone": inner}}
    projection = {"class_path": "planted.PlantedProjection"}
    network = yaml.safe_load(yaml.safe_dump(_network(encoder=encoder, output_projection=projection)))
    network["init_args"]["decoders"]["audio"]["init_args"]["spectrogram"] = "planted.planted_function"
    config = {"model": {"init_args": {"network": network}}}
    names = ["Planted", "Inner", "Innermost", "PlantedProjection", "planted_function"]
    assert sorted(foreign_classes(config)) == sorted(f"planted.{name}" for name in names)
    assert "planted" not in sys.modules
    with pytest.raises(UserError) as caught:
        network_of(config, trust=["planted.PlantedProjection"])
    message = str(caught.value)
    assert "network.encoder.backbone.parts[0]: 'planted.Innermost' is refused" in message
    assert "audio.spectrogram: 'planted.planted_function' is refused" in message
    assert "PlantedProjection" not in message
    assert "--trust planted." in message


@pytest.mark.parametrize("short", [False, True])
def test_the_cache_of_a_run_is_left_out(short, tmp_path):
    network = _network(cache={"folder": str(tmp_path / "elsewhere")})
    found = network_of({"model": {"init_args": {"network": network["init_args"] if short else network}}})
    assert found.cache is None
    assert found.encoder_stores.memory.evict
    assert found.encoder_stores.memory.max_bytes < 20e6


def test_python_objects_and_nested_aliases_in_a_run_are_refused(tmp_path):
    folder = _folder(tmp_path, POCKET)
    for text, reason in (
        ("!!python/object/apply:planted.Planted []", "could not determine a constructor"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{c}: &{c} [{','.join([f'*{p}'] * 10)}]\n" for p, c in zip("abcdefg", "bcdefgh", strict=True)),
            "200,000 values",
        ),
        ("a: &a [*a]", "contains itself"),
    ):
        (folder / "config.yaml").write_text(text)
        with pytest.raises(UserError, match=reason):
            AnyToAny.from_run(folder)
    assert "planted" not in sys.modules


def test_a_package_is_not_imported_to_find_its_files():
    from nextgpt_pl.utils.paths import resolve

    with pytest.raises(UserError, match="no such package"):
        resolve("wheel:planted.inside")
    assert "planted" not in sys.modules


def test_the_configuration_of_an_earlier_version_is_read():
    saved = yaml.safe_load((Path(__file__).parent.parent / "golden" / "run_config_0.1.yaml").read_text())
    network = network_of(saved)
    assert network.decoders[Modality.AUDIO].spectrogram is compressed_mel
    assert network.encoder.loaded is False
    init = saved["model"]["init_args"]["network"]["init_args"]
    assert network.output_projection_factory.keywords.items() >= init["output_projection"]["init_args"].items()


def test_a_judge_that_sends_the_api_key_must_be_trusted(tmp_path):
    endpoint = {"base_url": "http://elsewhere.invalid/v1", "model": "m"}
    judge = {"class_path": ENDPOINT_JUDGE, "init_args": {"endpoint": endpoint}}
    (tmp_path / "evaluation.yaml").write_text(yaml.safe_dump({"tasks": [TASKS["Judge"](judge)]}))
    (tmp_path / "predictions.jsonl").write_text("")
    name = "nextgpt_pl.evaluation.judges.endpoint_judge.EndpointJudge"
    with pytest.raises(UserError, match=f"sends an API key .* --trust {name}"):
        evaluate(["evaluate", str(tmp_path)])
    assert evaluate(["evaluate", str(tmp_path), "--trust", name]) == 0
