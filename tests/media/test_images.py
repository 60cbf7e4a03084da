import io
import sys

import numpy as np
import pytest
from PIL import Image

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.images import load_image, rgb
from nextgpt_pl.media.reading import as_array
from nextgpt_pl.modality import Modality

GRADIENT = np.linspace(0, 65535, 256).reshape(16, 16)


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.png", GRADIENT.astype(np.uint16)),
        ("a.tif", GRADIENT.astype(np.uint16)),
        ("a.tif", GRADIENT.astype(">u2")),
        ("a.tif", GRADIENT.astype(np.int32)),
        ("a.tif", (GRADIENT / 65535).astype(np.float32)),
        ("a.tif", (GRADIENT / 257).astype(np.float32)),
    ],
    ids=["PNG of 16 bits", "TIFF of 16 bits", "big-endian", "32 bits", "in [0, 1]", "in [0, 255]"],
)
def test_images_of_more_than_8_bits_keep_their_gradient(tmp_path, name, pixels):
    Image.fromarray(pixels).save(tmp_path / name)
    read = load_image(tmp_path / name)
    assert read.dtype == np.uint8
    assert np.array_equal(read, np.arange(256).reshape(16, 16, 1).repeat(3, 2))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((2, 2), 300.0, np.float32), r"floating-point pixels are in \[0, 1\] or \[0, 255\], .* 300 to 300"),
        (np.full((2, 2), -0.5, np.float32), "from -0.5 to -0.5"),
        (np.full((2, 2), 70_000, np.int32), r"pixels are in \[0, 65535\]"),
    ],
)
def test_pixels_out_of_range_are_refused(tmp_path, pixels, message):
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=rf"a\.tif: .*{message}"):
        load_image(tmp_path / "a.tif")


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 4, 3)).save(data, "TIFF", exif=exif)
    return data.getvalue()


def _saved(image, **options):
    data = io.BytesIO()
    image.save(data, "PNG", **options)
    return data.getvalue()


def _half_transparent():
    return Image.fromarray(np.dstack([np.zeros((4, 6, 3), np.uint8), np.full((4, 6), 128, np.uint8)]))


@pytest.mark.parametrize(
    ("data", "corner", "shape"),
    [
        (_turned(), (84, 85, 86), (4, 8, 3)),
        (_saved(_half_transparent()), (127, 127, 127), (4, 6, 3)),
        (_saved(_half_transparent().convert("LA")), (127, 127, 127), (4, 6, 3)),
        (_saved(Image.new("P", (6, 4)), transparency=0), (255, 255, 255), (4, 6, 3)),
        (_saved(Image.fromarray(np.full((4, 6), 32896, np.uint16))), (128, 128, 128), (4, 6, 3)),
    ],
    ids=["turned by EXIF", "half transparent", "gray and alpha", "transparent colour", "16 bits"],
)
def test_a_picture_is_the_same_as_file_as_bytes_as_image_and_as_array(tmp_path, data, corner, shape):
    (tmp_path / "a").write_bytes(data)
    read = load_image(tmp_path / "a")
    assert read.shape == shape
    assert tuple(read[0, 0]) == corner
    for source in (data, Image.open(io.BytesIO(data)), read):
        assert np.array_equal(as_array(source, Modality.IMAGE, "here")[0], read)


def test_images_of_pillow_are_bounded_too():
    with pytest.raises(UserError, match="here: 9000 x 8000 pixels, at most 64,000,000"):
        rgb(Image.new("1", (9000, 8000)), "here")


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "WEBP"])
def test_formats_of_pillow_are_read(tmp_path, kind):
    Image.new("RGB", (16, 8), "red").save(tmp_path / "a", kind)
    assert np.abs(load_image(tmp_path / "a") - np.array([255.0, 0, 0])).max() < 12


def _heic():
    """The first bytes of a HEIC file, which name its format."""
    return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40


def test_heic_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(_heic())
    with pytest.raises(UserError, match=r"a\.heic: HEIC .*pip install 'nextgpt-pl\[heic\]'"):
        load_image(tmp_path / "a.heic")
    with pytest.raises(UserError, match=r"here: HEIC .*pip install"):
        as_array(_heic(), Modality.IMAGE, "here")


def test_heic_is_read_with_its_library(tmp_path):
    library = pytest.importorskip("pillow_heif")
    library.from_pillow(Image.new("RGB", (64, 48), "red")).save(tmp_path / "a.heic")
    read = load_image(tmp_path / "a.heic")
    assert read.shape == (48, 64, 3)
    assert np.abs(read - np.array([255.0, 0, 0])).max() < 12
    (tmp_path / "a.heic").write_bytes(_heic())
    with pytest.raises(UserError, match=r"a\.heic: not a readable image"):
        load_image(tmp_path / "a.heic")
