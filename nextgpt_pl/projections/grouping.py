"""The grouping projection of the paper's later version: encoder patches are assigned to a few semantic groups.

The grouping stages are those of GroupViT (Xu et al. 2022) in the transformers library.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution
from transformers import GroupViTVisionConfig
from transformers.models.groupvit.modeling_groupvit import GroupViTStage

from nextgpt_pl.errors import UserError
from nextgpt_pl.projections.input import InputProjection


class GroupingInputProjection(InputProjection):
    """Stages of attention, each ending in a hard assignment of its tokens to fewer groups.

    Assignments are sampled by Gumbel softmax in training, and are the argmax in evaluation.

    Args:
        encoder_dim: C.
        hidden_size: H.
        width: inner width.
        groups: number of groups after each grouping stage; the last number is P.
        depths: attention layers per stage; one entry more than ``groups``, since the last stage does not group.
        heads: attention heads.

    """

    def __init__(
        self,
        encoder_dim: int,
        hidden_size: int,
        width: int = 512,
        groups: tuple[int, ...] = (64, 8),
        depths: tuple[int, ...] = (6, 3, 3),
        heads: int = 8,
    ) -> None:
        super().__init__()
        if len(depths) != len(groups) + 1:
            raise UserError(f"depths={depths}: expected one more entry than groups={groups}")
        if width % heads:
            raise UserError(f"width={width} is not divisible by heads={heads}")
        config = GroupViTVisionConfig(
            hidden_size=width, intermediate_size=4 * width, num_attention_heads=heads, layer_norm_eps=1e-5
        )
        self.num_tokens = groups[-1]
        self.in_fc = nn.Linear(encoder_dim, width)
        numbers = [0, *groups, 0]
        self.layers = nn.ModuleList(
            GroupViTStage(config, depth, numbers[i], numbers[i + 1], numbers[i + 1]) for i, depth in enumerate(depths)
        )
        self.norm = nn.LayerNorm(width)
        self.out_fc = nn.Linear(width, hidden_size)
        for name, module in self.named_modules():
            # the official blocks have no bias there, and the class has no switch for it
            if isinstance(module, nn.Linear) and name.endswith(tuple(f"self_attn.{p}_proj" for p in "qkv")):
                module.register_parameter("bias", None)
        for name, parameter in self.named_parameters():
            if name.endswith("group_token"):
                # the class initialises them with zeros, so all groups would be equal
                nn.init.normal_(parameter, std=0.02)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, E, C)`` to ``(N, P, H)``."""
        x, tokens = self.in_fc(features), None
        # torch.distributions validates its arguments with a host synchronisation
        Distribution.set_default_validate_args(False)
        try:
            for stage in self.layers:
                x, tokens = stage(x, tokens)[:2]
        finally:
            Distribution.set_default_validate_args(__debug__)
        return self.out_fc(self.norm(x))
