import pytest
import yaml

from nextgpt_pl.config.yaml_files import check_bounds, check_files, parse_yaml, read_yaml
from nextgpt_pl.errors import UserError

_TENS = [f"{c}: &{c} [{','.join([f'*{p}'] * 10)}]" for p, c in zip("abcdefg", "bcdefgh", strict=True)]
BOMB = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x, x]", *_TENS])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# a: b\n".encode("utf-16"), "not UTF-8 at byte 0"),
        ("# é\n".encode("latin-1"), "not UTF-8 at byte 2"),
        (bytes(range(256)), "not UTF-8 at byte 128"),
        (b"a: b\0", "zero bytes"),
        (b"a: \x01", "not valid YAML: unacceptable character"),
        (b"a: [1", "not valid YAML: expected ',' or ']'.*line 1"),
        (b"a: !!python/object/apply:os.system [x]", "could not determine a constructor"),
        (BOMB.encode(), "more than 200,000 values"),
        (b"a: &a [*a]", "contains itself"),
        (b"[" * 100_000, "not valid YAML"),
        (b"9" * 10_000, "not valid YAML"),
        (b"#" * 2**23, "larger than 4 MiB"),
        (b"trainer: {a: 1}\nb: 2\ntrainer: {c: 3}", "'trainer' is given twice, on lines 1 and 3"),
        (b"a: [{b: 1, b: 2}]", "'b' is given twice, on lines 1 and 1"),
    ],
    ids=range(14),
)
def test_what_is_no_configuration_is_named(content, message, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"x.yaml: .*{message}"):
        read_yaml(file)
    outer = tmp_path / "outer.yaml"
    outer.write_text("model: {network: x.yaml}\nother: [{deep: nowhere.yaml}]")
    with pytest.raises(UserError, match=f"x.yaml: .*{message}"):
        check_files(outer)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such file"):
        read_yaml(tmp_path / "nowhere.yaml")
    with pytest.raises(UserError, match="a folder, not a file"):
        read_yaml(tmp_path)


def test_aliases_within_bounds_are_read(tmp_path):
    text = "a: &a {x: 1}\nb: [*a, *a]\nc: {<<: *a, y: 2}\n"
    assert parse_yaml(text) == yaml.safe_load(text) == {"a": {"x": 1}, "b": [{"x": 1}] * 2, "c": {"x": 1, "y": 2}}
    check_bounds(text)
    with pytest.raises(yaml.YAMLError):
        check_bounds(BOMB)


def test_files_that_include_each_other_are_read_once(tmp_path):
    (tmp_path / "a.yaml").write_text("x: b.yaml")
    (tmp_path / "b.yaml").write_text("x: a.yaml")
    check_files(tmp_path / "a.yaml")
