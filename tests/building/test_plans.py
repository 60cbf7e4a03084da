import pytest

from nextgpt_pl.building import Prompts, Template
from nextgpt_pl.errors import UserError

USER = "{{ number }} {{ topic }} {{ kinds | join('+') }} {{ exchanges }}"


def prompts(**options):
    return Prompts(**{"topics": ["cats", "dogs"], "templates": [Template(USER), Template("Other: " + USER)], **options})


def test_a_plan_depends_on_its_number_and_the_seed_only():
    plans = [prompts().plan(number) for number in range(50)]
    assert plans == [prompts().plan(number) for number in range(50)]
    assert plans != [prompts().plan(number, seed=1) for number in range(50)]
    assert (
        plans[7].user.removeprefix("Other: ") == f"7 {plans[7].topic} {'+'.join(plans[7].kinds)} {plans[7].exchanges}"
    )


def test_everything_is_drawn_within_its_bounds():
    plans = [prompts(exchanges=(2, 4), kinds_per_dialogue=(1, 3)).plan(number) for number in range(300)]
    assert {plan.topic for plan in plans} == {"cats", "dogs"}
    assert {plan.exchanges for plan in plans} == {2, 3, 4}
    assert {len(plan.kinds) for plan in plans} == {1, 2, 3}
    assert {kind for plan in plans for kind in plan.kinds} == {"image", "video", "audio"}
    assert {plan.user.startswith("Other") for plan in plans} == {True, False}
    assert all(len(set(plan.kinds)) == len(plan.kinds) for plan in plans)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topics": []}, r"prompts\.topics: at least one"),
        ({"kinds": ["smell"]}, r"prompts\.kinds: 'smell': expected image, video, audio"),
        ({"kinds": ["depth"]}, r"prompts\.kinds: 'depth'"),
        ({"exchanges": (3, 2)}, r"prompts\.exchanges=\[3, 2\]"),
        ({"exchanges": (0, 2)}, r"prompts\.exchanges=\[0, 2\]"),
        ({"kinds": ["image"], "kinds_per_dialogue": (1, 2)}, r"prompts\.kinds_per_dialogue=\[1, 2\].*within 1 to 1"),
        ({"most_media": 1}, r"prompts\.most_media=1"),
        ({"templates": [Template("{{ theme }}")]}, r"prompts\.templates\[0\]: 'theme' is undefined"),
        ({"templates": [Template("{{ topic")]}, r"prompts\.templates\[0\]: .*unexpected"),
        ({"templates": [Template(" ")]}, r"prompts\.templates\[0\]\.user: the request is empty"),
        ({"templates": [Template("{{ 1 / 0 }}")]}, r"prompts\.templates\[0\]: division by zero"),
        ({"templates": [Template("{{ topic.__class__.__mro__ }}")]}, r"prompts\.templates\[0\]: .*unsafe"),
    ],
)
def test_invalid_prompts_are_named(options, message):
    with pytest.raises(UserError, match=message):
        prompts(**options)
