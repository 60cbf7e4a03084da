import pytest
import torch

from nextgpt_pl.metrics.distributions import kernel_distance, kernel_error


def test_the_error_is_that_of_leaving_out_each_item_once():
    torch.manual_seed(0)
    a, b = torch.randn(7, 3), torch.randn(5, 3) + 0.5

    def whole(x, y):
        """On all items; sets of two sizes give it as a mean over pairs."""
        kernel = [(p.double() @ q.double().T / 3 + 1) ** 3 for p, q in ((x, x), (y, y), (x, y))]
        within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in kernel[:2]]
        return within[0] + within[1] - 2 * kernel[2].mean()

    assert float(whole(a[:5], b)) == pytest.approx(float(kernel_distance(a[:5], b)[0]))
    wanted = 0.0
    for changed in (0, 1):
        sets = (a, b)
        rows = len(sets[changed])
        keep = [[i for i in range(rows) if i != out] for out in range(rows)]
        found = torch.stack([whole(*(s[k] if n == changed else s for n, s in enumerate(sets))) for k in keep])
        wanted += (rows - 1) / rows * (found - found.mean()).square().sum()
    assert float(kernel_error(a, b, block=2)) == pytest.approx(float(wanted.sqrt()))


def test_the_error_is_the_deviation_over_sets_drawn_anew():
    torch.manual_seed(0)
    sets = [(torch.randn(60, 4), torch.randn(60, 4) * 1.3 + 0.3) for _ in range(300)]
    spread = torch.stack([kernel_distance(*pair)[0] for pair in sets]).std()
    said = torch.stack([kernel_error(*pair) for pair in sets]).square().mean().sqrt()
    assert float(said) == pytest.approx(float(spread), rel=0.2)
