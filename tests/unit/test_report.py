"""Parts of the report that need no run: axes, thinning, and text that must stay text."""

import json
import math
import re
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from engine.catalog.metrics import find_metric
from engine.evaluation.charts import Line, line_chart, round_ticks, thinned, tick_text
from engine.evaluation.markup import code_block, escape_html, escape_markdown, inline_code
from engine.evaluation.report_data import headline, metric_row, paired_samples
from engine.evaluation.report_html import _bars


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 6.0, [0, 2, 4, 6]),
        (0.13, 0.42, [0.1, 0.2, 0.3, 0.4, 0.5]),
        (0.0, 2e-4, [0, 5e-5, 1e-4, 1.5e-4, 2e-4]),
        (5.0, 5.0, [4.4, 4.6, 4.8, 5.0, 5.2, 5.4, 5.6]),
    ],
)
def test_ticks_are_round_and_span_the_values(low, high, expected):
    ticks = round_ticks(low, high, 5)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    if low != high:
        assert ticks == pytest.approx(expected)
    assert len({tick_text(tick, ticks) for tick in ticks}) == len(ticks)


def test_steps_are_whole_numbers():
    assert round_ticks(1, 3, 8, whole=True) == [1, 2, 3]


def test_a_chart_is_well_formed_and_keeps_to_its_frame():
    lines = [
        Line("<b>", "train", [(step, 6 * math.exp(-step / 300)) for step in range(5000)]),
        Line("held-out", "held-out", [(0, 7.0), (2500, math.nan), (5000, 1.0)], dots=True),
    ]
    svg = ElementTree.fromstring(line_chart("a & b", lines, x_name="step", y_name="loss"))
    assert svg.get("aria-label") == "a & b"
    numbers = [
        float(number)
        for path in svg.iter("path")
        for number in path.get("d", "").replace("M", " ").replace("L", " ").split()
    ]
    assert numbers
    assert all(0 <= number <= 760 for number in numbers)
    assert len(list(svg.iter("circle"))) == 2
    assert line_chart("nothing", [Line("x", "train", [(1, math.nan)])], x_name="", y_name="") == ""


def test_thinning_keeps_ends_and_level():
    points = [(float(step), float(step % 2)) for step in range(100_001)]
    few = thinned(points)
    assert len(few) <= 600
    assert (few[0], few[-1]) == (points[0], points[-1])
    assert all(0.4 < y < 0.6 for _, y in few[1:-1])
    assert thinned(points[:50]) == points[:50]


def test_text_cannot_leave_its_block():
    assert code_block("a\n```\nb").startswith("````\n")
    assert inline_code("a`b``c|d") == "```a`b``c\N{BROKEN BAR}d```"
    assert inline_code("`") == "`` ` ``"
    assert escape_markdown("# <b> [x](y) | *z*\n- a") == r"\# \<b\> \[x\]\(y\) \| \*z\*⏎\- a"
    assert escape_html("<a href=\"x\" onclick='y'>\x1b[2J&") == (
        "&lt;a href=&quot;x&quot; onclick=&#x27;y&#x27;&gt;\N{REPLACEMENT CHARACTER}[2J&amp;"
    )


@pytest.mark.parametrize("text", ["www.evil.example", "https://evil.example/x", "mail me@evil.example", "&lt;b>"])
def test_no_reader_of_markdown_makes_links_or_elements_of_text(text):
    reader = MarkdownIt("commonmark", {"linkify": False}).enable("table")
    inside = reader.parseInline(escape_markdown(text))[0].children
    assert {token.type for token in inside} <= {"text", "text_special"}
    assert "".join(token.content for token in inside) == text
    # Readers with automatic links look for these in what is not escaped.
    assert not re.search(r"www\.|[^\\]://|[^\\]@", escape_markdown(text))


def rows(before, after):
    return [metric_row(find_metric(name), {"metrics": before}, {"metrics": after}) for name in {**before, **after}]


def test_the_headline_names_disagreement():
    mixed = headline(rows({"exact_match": 0.1, "perplexity": 3.0}, {"exact_match": 0.2, "perplexity": 4.0}))
    assert mixed["direction"] == "mixed"
    assert "exact match rose from 10.0 % to 20.0 % and perplexity rose from 3.00 to 4.00" in mixed["text"]
    same = headline(rows({"perplexity": 3.0}, {"perplexity": 3.0}))
    assert same == {
        "direction": "same",
        "text": "Training changed nothing that was measured: perplexity stayed at 3.00.",
    }
    assert headline(rows({"perplexity": 3.0}, {}))["direction"] == "unknown"


def test_samples_are_paired_by_prompt():
    before = {"samples": [{"prompt": "a", "expected": "x", "text": "1"}, {"prompt": "b", "expected": "", "text": "2"}]}
    after = {"samples": [{"prompt": "b", "expected": "", "text": "3"}]}
    assert paired_samples(before, after) == [
        {"prompt": "b", "expected": "", "before": "2", "few_shot": "", "after": "3"},
        {"prompt": "a", "expected": "x", "before": "1", "few_shot": "", "after": ""},
    ]
    twice = [{"prompt": "yes", "expected": "x", "text": "1"}, {"prompt": "yes", "expected": "y", "text": "2"}]
    assert [(pair["expected"], pair["before"]) for pair in paired_samples({"samples": twice}, {"samples": twice})] == [
        ("x", "1"), ("y", "2"),
    ]  # fmt: skip
    assert json.dumps(paired_samples({}, {})) == "[]"


def test_intervals_are_drawn_on_the_scale_of_their_bars():
    row = {"before": 0.2, "after": 0.5, "format": "share", "before_interval": None, "after_interval": [0.4, 0.6]}
    before, after = re.findall(r'<div class="bar.*?</div>', _bars(row))
    assert "<b" not in before, "there is no interval to draw"
    assert "width:50.0%" in after
    assert '<b style="left:40.0%;width:20.0%">' in after
    wide = {
        "before": 4.0,
        "after": 2.0,
        "format": "number",
        "before_interval": [3.0, 8.0],
        "after_interval": [1.0, "NaN"],
    }
    before, after = re.findall(r'<div class="bar.*?</div>', _bars(wide))
    assert "width:50.0%" in before, "the end of an interval is the largest number shown"
    assert '<b style="left:37.5%;width:62.5%">' in before
    assert "<b" not in after
