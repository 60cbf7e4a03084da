"""The loss in parts is the loss of all logits at once, and so are its gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nextgpt_pl.llm.head_loss import token_cross_entropy
from nextgpt_pl.llm.signal_rows import ExtendedHead
from nextgpt_pl.losses import shifted_labels


def _head(trains=True):
    torch.manual_seed(0)
    base = nn.Linear(6, 9, bias=False)
    base.requires_grad_(False)
    head = ExtendedHead(base, 3).double()
    head.rows.requires_grad_(trains)
    return head


@pytest.mark.parametrize("at_once", [1, 3, 100])
@pytest.mark.parametrize("trains", [True, False])
def test_loss_and_gradients_are_those_of_all_logits_at_once(at_once, trains):
    head = _head(trains)
    hidden = torch.randn(2, 5, 6, dtype=torch.float64)
    labels = torch.randint(0, 12, (2, 5))
    labels[0, :3] = -100
    mask, following = shifted_labels(labels)
    found = []
    for parts in (True, False):
        states = hidden.clone().requires_grad_()
        head.rows.grad = None
        if parts:
            loss, right = token_cross_entropy(head, list(head.parameters()), states[mask], following, at_once)
        else:
            logits = head(states)
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
            right = (logits[mask].argmax(-1) == following).sum()
        (0.5 * loss).backward()
        found.append((loss.detach(), right, states.grad, head.rows.grad if trains else states.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-4, atol=1e-6)


def test_without_gradients_and_without_positions():
    head, labels = _head(), torch.tensor([1, 2])
    with torch.no_grad():
        loss, _ = token_cross_entropy(head, list(head.parameters()), torch.randn(2, 6, dtype=torch.float64), labels, 1)
    assert not loss.requires_grad
    states = torch.randn(0, 6, dtype=torch.float64, requires_grad=True)
    loss, right = token_cross_entropy(head, list(head.parameters()), states, labels[:0], 4)
    loss.backward()
    assert loss == right == 0
    assert not states.grad.any()
    assert not head.rows.grad.any()


def test_no_more_logits_are_held_than_those_of_a_part():
    head, sizes = _head(), []
    head.register_forward_hook(lambda _m, _i, out: sizes.append(len(out)))
    states = torch.randn(10, 6, dtype=torch.float64, requires_grad=True)
    loss, _ = token_cross_entropy(head, list(head.parameters()), states, torch.zeros(10, dtype=torch.long), 4)
    loss.backward()
    assert sizes == [4, 4, 2]
