import math

import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.reports import find_runs
from nextgpt_pl.reports.figures import error_bars, group_curves, numeric_key
from nextgpt_pl.reports.groups import choose_metrics, group_runs, spread, summary

NETWORK = "model.init_args.network.init_args"
WIDTH = f"{NETWORK}.output_projection.init_args.width"
METRIC = "val/relative_mse_image"


@pytest.fixture
def widths(make_run, tmp_path):
    for width, errors in ((64, (0.5, 0.7)), (128, (0.2, 0.4))):
        for seed, error in enumerate(errors):
            changes = {
                WIDTH: width,
                "seed_everything": seed,
                "data.init_args.seed": seed,
                "run.name": f"{width}-{seed}",
            }
            make_run(f"w/{width}-{seed}", changes, error)
    return group_runs(find_runs([tmp_path / "outputs"]))


def test_runs_are_grouped_without_seed_and_place(widths):
    assert [dict(group.settings) for group in widths] == [{"width": 64}, {"width": 128}]
    assert [group.label for group in widths] == ["width=64", "width=128"]
    assert [len(group.runs) for group in widths] == [2, 2]


def test_mean_and_standard_deviation(widths):
    table = summary(widths, [METRIC])
    assert list(table["width"]) == [64, 128]
    assert list(table[f"{METRIC} mean"]) == pytest.approx([0.6, 0.3])
    # of a sample: two values 0.2 apart
    assert list(table[f"{METRIC} std"]) == pytest.approx([math.sqrt(0.02)] * 2)
    assert spread(widths[0].values(METRIC)) == "0.6 ± 0.14"
    assert spread(widths[0].values(METRIC)[:1]) == "0.5"
    assert spread(widths[0].values("no/such")) == "-"


def test_error_bars_stand_over_the_number_that_differs(widths):
    assert numeric_key(widths) == "width"
    (axis,) = [a for a in error_bars(widths, [METRIC]).axes if a.axison]
    bars = axis.containers[0]
    assert list(bars.lines[0].get_xdata()) == [64, 128]
    assert list(bars.lines[0].get_ydata()) == pytest.approx([0.6, 0.3])
    (segments,) = bars.lines[2]
    lengths = [segment[1][1] - segment[0][1] for segment in segments.get_segments()]
    assert lengths == pytest.approx([2 * math.sqrt(0.02)] * 2)


def test_curves_are_means_over_seeds(widths):
    axes = group_curves(widths, [METRIC, "no/such"]).axes
    assert len(axes) == 1
    assert [list(line.get_ydata()) for line in axes[0].lines] == [pytest.approx([1.2, 0.6]), pytest.approx([0.6, 0.3])]


def test_labels_tell_what_most_do_not_have(make_run, tmp_path):
    make_run("a/base")
    make_run("a/l2", {"model.init_args.alignment": "l2"})
    make_run("a/tokens", {f"{NETWORK}.num_signal_tokens": {"image": 2, "video": 12}})
    transformer = {"class_path": "nextgpt_pl.projections.TransformerOutputProjection"}
    make_run(
        "a/transformer", {f"{NETWORK}.output_projection": {**transformer, "init_args": {"width": 512, "heads": 4}}}
    )
    linear = {"class_path": "nextgpt_pl.projections.LinearOutputProjection"}
    make_run("a/linear", {f"{NETWORK}.output_projection": linear})
    make_run("a/narrow", {WIDTH: 64})
    groups = group_runs(find_runs([tmp_path / "outputs"]))
    labels = {group.runs[0].folder.name: group.label for group in groups}
    assert labels == {
        "base": "base",
        "l2": "alignment=l2",
        "tokens": "num_signal_tokens=image=2 video=12",
        "transformer": "output_projection=TransformerOutputProjection",
        "linear": "output_projection=LinearOutputProjection",
        "narrow": "width=64",
    }
    # heads, which only the transformer has, go without saying
    assert list(groups[0].settings) == ["alignment", "num_signal_tokens", "output_projection", "width"]
    assert numeric_key(groups) is None
    axis = error_bars(groups, [METRIC]).axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == [group.label for group in groups]


def test_long_labels_become_numbers(make_run, tmp_path):
    changes = {f"model.init_args.quite_a_long_name_of_a_key_{i}": i for i in range(3)}
    make_run("a/one", dict.fromkeys(changes, 7))
    make_run("a/two", changes)
    groups = group_runs(find_runs([tmp_path / "outputs"]))
    assert [group.label for group in groups] == ["configuration 1", "configuration 2"]
    assert len(groups[0].settings) == 3


def test_a_key_without_value_in_some_says_nothing(make_run, tmp_path):
    make_run("a/old")
    make_run("a/new", {"model.init_args.lr_scales": None})
    groups = group_runs(find_runs([tmp_path / "outputs"]))
    assert [dict(group.settings) for group in groups] == [{}, {}]


def test_metrics_are_chosen_by_pattern(widths):
    assert choose_metrics(widths) == [METRIC]
    assert choose_metrics(widths, ["val/*"]) == ["val/loss", METRIC]
    with pytest.raises(UserError, match=r"no run logged 'val/los'; did you mean 'val/loss'"):
        choose_metrics(widths, ["val/los"])
