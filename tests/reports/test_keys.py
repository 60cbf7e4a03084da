from nextgpt_pl.config.flat import flatten
from nextgpt_pl.reports.keys import short_names

WIDTH = "model.init_args.network.init_args.output_projection.init_args.width"


def test_flatten():
    nested = {"a": {"b": 1, "c": [2, {"d": 3}], "e": {}, "f": []}, "g": None}
    assert flatten(nested) == {"a.b": 1, "a.c.0": 2, "a.c.1.d": 3, "g": None}


def test_short_names_are_as_short_as_can_be():
    assert short_names([WIDTH, "seed_everything"]) == {WIDTH: "width", "seed_everything": "seed_everything"}
    other = "model.init_args.network.init_args.input_projection.init_args.width"
    assert short_names([WIDTH, other]) == {WIDTH: "output_projection.width", other: "input_projection.width"}


def test_a_class_is_named_by_its_place():
    keys = ["network.output_projection.class_path", "model.class_path"]
    assert list(short_names(keys).values()) == ["output_projection", "model"]


def test_a_number_does_not_stand_alone():
    assert short_names(["optimizer.betas.0", "optimizer.betas.1"]) == {
        "optimizer.betas.0": "betas.0",
        "optimizer.betas.1": "betas.1",
    }


def test_one_key_may_end_another():
    found = short_names(["data.seed", "data.sources.seed", "seed"])
    assert len(set(found.values())) == 3
