"""Checks of the rows and encoders of the page on new modalities, run in a process that imports the changed package."""

from pathlib import Path

import numpy as np
import torch
from my_points import PointCloudEncoder, PointNet
from my_tables import TableEncoder, TableNet
from my_world import cloud, save_ply, table
from safetensors.torch import save_file

from nextgpt_pl.encoders import MixedEncoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.reading import as_array, load_array
from nextgpt_pl.modality import GENERATED, Modality, modality_of_file
from nextgpt_pl.samples import Media

assert [m.value for m in GENERATED] == ["image", "video", "audio"]
assert modality_of_file("a.ply") is Modality.POINTS
assert modality_of_file("a.csv") is Modality.TABLE
torch.manual_seed(0)
save_file(PointNet().state_dict(), "points.safetensors")
save_file(TableNet().state_dict(), "tables.safetensors")
parts = {"points": PointCloudEncoder("points.safetensors"), "tables": TableEncoder("tables.safetensors")}
both = MixedEncoder(parts)
rng = np.random.default_rng(0)
array = cloud(rng, False)[0]
save_ply(array, Path("a.ply"))
np.testing.assert_allclose(load_array(Path("a.ply"), Modality.POINTS), array, atol=3e-3)
rows = "\n".join(" ".join(map(str, row)) for row in array[:, :3])
head = "ply\nformat ascii 1.0\nelement vertex N\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
Path("b.ply").write_text(head.replace("N", str(len(array))) + rows)
np.testing.assert_allclose(load_array(Path("b.ply"), Modality.POINTS), array[:, :3], rtol=1e-5)


def features(modality, *arrays):
    media = [Media(modality, lambda a=a: a) for a in arrays]
    return both.features(modality, media, "cpu")


# neither the order of points nor their number in the batch matters
first, mixed, other = features(Modality.POINTS, array, array[rng.permutation(len(array))], array[:40])
torch.testing.assert_close(first, mixed)
torch.testing.assert_close(first, features(Modality.POINTS, array)[0])
assert not torch.allclose(first, other, atol=1e-4)
# a table of any number of rows, beside shorter and longer ones
long = np.array([["item", "price"], *([f"thing {i}", str(i)] for i in range(500))])
short = table(rng, False)[0]
assert features(Modality.TABLE, long, short).shape == (2, 4, 128)
torch.testing.assert_close(features(Modality.TABLE, long, short)[1], features(Modality.TABLE, short)[0])


def fails(message, function, *arguments):
    try:
        function(*arguments)
    except UserError as error:
        assert message in str(error)  # noqa: PT017
    else:
        raise AssertionError(message)


Path("bad.csv").write_text("a,b\n1\n")
Path("no.ply").write_text("PLY")
Path("cut.ply").write_bytes(Path("a.ply").read_bytes()[:-9])
fails("row 1 has 1 cells, the header has 2", load_array, Path("bad.csv"), Modality.TABLE)
fails("not a .ply file", load_array, Path("no.ply"), Modality.POINTS)
fails("cut.ply: not a readable file of points", load_array, Path("cut.ply"), Modality.POINTS)
shapes = "points arrays are floating-point (n, 3) or (n, 6), got float64 (2, 4)"
fails(shapes, as_array, np.zeros((2, 4)), Modality.POINTS, "x")
fails("table arrays are text (n, m), got float64 (2, 4)", as_array, np.zeros((2, 4)), Modality.TABLE, "x")
bad = np.array([[0.0] * 5 + [np.nan]])
fails("1 of 6 values of this points are not finite", as_array, bad, Modality.POINTS, "x")
