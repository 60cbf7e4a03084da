import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.readers.files import braces, expanded, inside, is_hidden


def test_ranges_and_choices_are_expanded():
    assert braces("{00000..00002}.tar") == ["00000.tar", "00001.tar", "00002.tar"]
    assert braces("{train,val}-{8..10}.tar")[::3] == ["train-8.tar", "val-8.tar"]
    assert braces("plain.json") == ["plain.json"]
    with pytest.raises(UserError, match="an ascending range"):
        braces("{5..3}.tar")


def test_files_of_patterns(tmp_path):
    for name in ("a/1.json", "a/2.json", "a/._2.json", "a/.ipynb_checkpoints/1.json", "b.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [f.name for f in expanded(tmp_path, ["a/*.json", "b.csv", "a/1.json"])] == ["1.json", "2.json", "b.csv"]
    assert [f.name for f in expanded(tmp_path, ["**/*.json"])] == ["1.json", "2.json"]
    with pytest.raises(UserError, match=r"a/3\.json: no such file; did you mean 'a/[12]\.json'"):
        expanded(tmp_path, ["a/{1..3}.json"])
    with pytest.raises(UserError, match=r"'c/\*\.json' matches no file"):
        expanded(tmp_path, ["c/*.json"])
    with pytest.raises(UserError, match="leaves its folder"):
        expanded(tmp_path / "a", ["../*.csv"])


@pytest.mark.parametrize("name", ["a/._x.jpg", "__MACOSX/x.jpg", "a/.ipynb_checkpoints/x.jpg", ".hidden.png"])
def test_files_of_systems_and_editors_are_no_rows(name):
    assert is_hidden(name)
    assert not is_hidden("a.b/x.jpg")


def test_paths_stay_inside_and_media_roots_open_further_folders(tmp_path):
    root, other = tmp_path / "set", tmp_path / "other"
    for folder in (root / "sub", other):
        folder.mkdir(parents=True)
        (folder / "x.png").touch()
    (root / "link.png").symlink_to(other / "x.png")
    (root / "linked").symlink_to(other)
    (root / "own.png").symlink_to(root / "sub" / "x.png")
    assert inside(root, "sub/x.png") == root / "sub" / "x.png"
    assert inside(root, "own.png") == root / "sub" / "x.png"
    assert inside(root, str(root / "sub" / "x.png")) == root / "sub" / "x.png"
    for name in ("../other/x.png", str(other / "x.png"), "link.png", "linked/x.png", "sub/../../other/x.png", ".."):
        with pytest.raises(UserError, match="leaves its folder"):
            inside(root, name)
    for name in (str(other / "x.png"), "link.png", "linked/x.png"):
        assert inside(root, name, [other]) == other / "x.png"


@pytest.mark.parametrize("name", ["a\0b.png", "n" * 300 + ".png", "x" * 5000])
def test_names_that_no_file_can_have_are_errors(tmp_path, name):
    with pytest.raises(UserError, match="is not a file name"):
        inside(tmp_path, name)


def test_a_sibling_with_the_same_beginning_is_outside(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set2").mkdir()
    with pytest.raises(UserError, match="leaves its folder"):
        inside(tmp_path / "set", "../set2/x")
