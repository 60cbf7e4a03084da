import time

import pytest
from jinja2 import TemplateError

from nextgpt_pl.utils import bounded_jinja
from nextgpt_pl.utils.bounded_jinja import BoundedEnvironment, TemplateLimitError, render

HUNDRED = "{% set ns = namespace(x='ab') %}{% for i in range(100) %}"
ENDLESS = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops of a loop variable": "{% for i in range(9999) %}{% for j in range(9999) if j < 0 %}{% endfor %}{% endfor %}",
    "a recursive loop": "{% for i in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "a recursive macro": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "macros that call others": "".join(
        f"{{% macro m{n}() %}}{f'{{{{ m{n - 1}() }}}}' * 10 if n else ''}{{% endmacro %}}" for n in range(12)
    )
    + "{{ m11() }}",
    "doubling by ~": HUNDRED + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubling by +": HUNDRED + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubling by a block": HUNDRED + "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "doubling by a list": HUNDRED + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "doubling by a mapping": HUNDRED + "{% set ns.x = {1: ns.x, 2: ns.x} %}{% endfor %}{{ ns.x }}",
    "doubling by dict()": HUNDRED + "{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
    "doubling by a macro": "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}"
    + HUNDRED
    + "{% set ns.x = m(ns.x) %}{% endfor %}",
    "squaring": "{% set ns = namespace(x=9) %}{% for i in range(100) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "a constant text": "{{ 'a' * 99999999999 }}",
    "a constant list": "{{ [1] * 99999999999 }}",
    "a wide format": "{{ '%099999999999d' % 1 }}",
    "a wide format, given": "{{ '%*d' % (99999999999, 1) }}",
    "a wide format of a filter": "{{ '%099999999999d' | format(1) }}",
    "a wide format of a method": "{{ '{:>99999999999}'.format(1) }}",
    "a wide format in a format": "{{ '{:>{w}}'.format(1, w=99999999999) }}",
    "centred by a filter": "{{ 'a' | center(99999999999) }}",
    "centred by a method": "{{ 'a'.center(99999999999) }}",
    "replaced by a long text": "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "joined lazily": "{{ range(99999) | map('replace', '9', 'b' * 9999) | join }}",
    "joined by a long text": "{{ range(99999) | list | join('b' * 99999) }}",
    "filters in a loop": "{% for i in range(99999) %}{{ range(99999) | sum }}{% endfor %}",
    "text in a loop": "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
    "a value in a loop": "{% set x = 'a' * 9999 %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    "random words": "{{ lipsum(n=99999, min=9999, max=99999) }}",
    "a long template": "x" * (bounded_jinja.SOURCE + 1),
}


@pytest.fixture(autouse=True)
def _low_limits(monkeypatch):
    for name, limit in {"STEPS": 5_000, "SECONDS": 1.0, "SIZE": 2**16, "_ELEMENTS": 5_000}.items():
        monkeypatch.setattr(bounded_jinja, name, limit)


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_templates_end_by_a_limit(name):
    began = time.thread_time()
    with pytest.raises(TemplateError):
        render(BoundedEnvironment().compiled(ENDLESS[name]), {})
    assert time.thread_time() - began < 5


def test_steps_and_time_are_limited(monkeypatch):
    template = BoundedEnvironment().compiled("{% for i in range(n) %}{{ i }}{% endfor %}")
    monkeypatch.setattr(bounded_jinja, "STEPS", 100)
    assert render(template, {"n": 99}) == "".join(map(str, range(99)))  # and one step is the call of range
    with pytest.raises(TemplateLimitError, match="more than 100 steps; does it end"):
        render(template, {"n": 101})
    monkeypatch.setattr(bounded_jinja, "SECONDS", 0.0)
    with pytest.raises(TemplateLimitError, match="more than 0 seconds of computation"):
        render(template, {"n": 9})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ m.role }}{% endfor %}", "1/2user2/2assistant"),
        ("{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% if loop.last %}.{% endif %}{% endfor %}", "a1b2."),
        ("{% for x in nothing %}x{% else %}none{% endfor %}", "none"),
        ("{{ messages | map(attribute='role') | join(', ') | upper }}", "USER, ASSISTANT"),
        ("{{ messages[1:] | length }}{{ ('a', 'b')[0] }}{{ 'a' in ('a', 'b') }}{{ nothing }}", "1aTrue"),
        ("{% set a, b = 1, 2 %}{{ a ~ b }}{{ '%s-%d' % ('x', 3) }}{{ '{:03d}'.format(7) }}", "12x-3007"),
        ("{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is sequence else x }}{% endfor %}", "123"),
        ("{% set t %}a{{ 1 }}{% endset %}{% set u | upper %}b{% endset %}{{ t }}{{ u }}", "a1B"),
        ("{% macro m(x, y='z') %}{{ x }}{{ y }}{% endmacro %}{{ m('a') }}{% filter upper %}b{% endfilter %}", "azB"),
        ("{{ 2 ** 10 }} {{ 'ab' * 3 }} {{ [1] * 2 }} {{ 7 % 4 }} {{ 1.5 * 2 }}", "1024 ababab [1, 1] 3 3.0"),
        ("{{ messages[0].content.split('%')[1] }}", " of 1234567"),
    ],
)
def test_templates_within_the_limits_are_those_of_jinja(source, text):
    messages = [{"role": "user", "content": "100% of 1234567"}, {"role": "assistant", "content": ""}]
    assert render(BoundedEnvironment().compiled(source), {"messages": messages}) == text


def test_what_a_template_raises_is_an_error_of_templates():
    for source in ("{{ 1 / 0 }}", "{{ 1 + 'a' }}", "{% for i in 5 %}{% endfor %}", "{{ '('  }", "{{" + "(" * 9999):
        with pytest.raises(TemplateError):
            render(BoundedEnvironment().compiled(source), {})
