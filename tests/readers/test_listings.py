import os

import pytest

from nextgpt_pl.errors import UserError
from nextgpt_pl.readers.files import located
from nextgpt_pl.readers.listings import _FEW, Listings


def _asked(listings, folder):
    """Ask until the folder is listed."""
    for _ in range(_FEW):
        listings.has(folder, "x")
    return listings


@pytest.fixture
def folder(tmp_path):
    for name in ("set/a.png", "set/sub/b.png", "other/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "set" / "own.png").symlink_to(tmp_path / "set" / "a.png")
    (tmp_path / "set" / "out.png").symlink_to(tmp_path / "other" / "c.png")
    (tmp_path / "set" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    return tmp_path


def _outcome(*arguments):
    try:
        return located(*arguments)
    except UserError as error:
        return str(error)


_NAMES = ("a.png", "./a.png", "sub/b.png", "sub/../a.png", "own.png", "out.png", "gone.png", "sub", "sub/", "A.PNG")
_NAMES += ("missing.png", "no/a.png", "../other/c.png", "..", ".", "", "/a.png", "n" * 300, "a\0.png")


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("roots", [(), ("other",)])
def test_a_file_is_found_with_listings_as_without(folder, name, roots):
    base, roots = str(folder / "set"), tuple(str(folder / root) for root in roots)
    listings = _asked(_asked(Listings(), f"{base}/"), f"{base}/sub/")
    assert _outcome(base, name, roots, listings) == _outcome(base, name, roots)
    # also where the file that is looked for comes after the listing
    if name == "missing.png":
        (folder / "set" / name).touch()
        assert _outcome(base, name, roots, listings) == (f"{base}/{name}", True)


def test_a_folder_is_listed_once_and_links_and_folders_are_no_files(folder, monkeypatch):
    scans, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scans.append(path) or scan(path))
    base, listings = str(folder / "set"), Listings()
    assert not listings.has(base, "a.png")  # not listed for a few files
    _asked(listings, base)
    assert [name for name in ("a.png", "own.png", "sub", "b.png") if listings.has(base, name)] == ["a.png"]
    _asked(listings, str(folder / "nowhere"))
    assert not listings.has(str(folder / "nowhere"), "x")
    assert scans == [base, str(folder / "nowhere")]


def test_names_in_memory_are_bounded(tmp_path, monkeypatch):
    scans, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scans.append(path) or scan(path))
    for folder, files in (("a", 3), ("b", 3), ("large", 6)):
        (tmp_path / folder).mkdir()
        for number in range(files):
            (tmp_path / folder / str(number)).touch()
    listings = Listings(most=5)
    for folder, known in (("a", "a"), ("b", "b"), ("large", "b"), ("a", "b")):
        _asked(listings, str(tmp_path / folder))
        assert "".join(f for f in ("a", "b", "large") if listings.has(str(tmp_path / f), "0")) == known
    assert len(scans) == 3
