# SPDX-License-Identifier: Apache-2.0
"""Laws of the figures: everything drawn lies within the view box, and values become lengths."""

from __future__ import annotations

import itertools
import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe import Estimate
from datapipe.report import figures, findings, graph

NAME = st.text(min_size=0, max_size=40)
COUNT = st.integers(0, 10**9)


def shapes(drawn):
    """The view box, and the elements with their attributes."""
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, dict(attrs)))

    reader = Reader()
    reader.feed(drawn)
    width, height = (float(v) for v in dict(found[0][1])["viewbox"].split()[2:])
    return width, height, found[1:]


def spots(tag, at):
    """The corners of what an element draws."""
    if tag == "rect":
        x, y = float(at["x"]), float(at["y"])
        yield from [(x, y), (x + float(at["width"]), y + float(at["height"]))]
    elif tag == "line":
        yield from [(float(at["x1"]), float(at["y1"])), (float(at["x2"]), float(at["y2"]))]
    elif tag == "circle":
        yield from [(float(at["cx"]), float(at["cy"]))]
    elif tag == "text":
        yield from [(float(at["x"]), float(at["y"]))]
    elif tag in ("path", "polyline"):
        numbers = re.findall(r"-?[\d.]+", at.get("d", at.get("points", "")))
        yield from (
            itertools.batched(map(float, numbers), 2)
            if hasattr(itertools, "batched")
            else zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=True)
        )


def assert_inside(drawn):
    if not drawn:
        return
    width, height, elements = shapes(drawn)
    for tag, at in elements:
        for x, y in spots(tag, at):
            assert math.isfinite(x)
            assert math.isfinite(y)
            assert -0.6 <= x <= width + 0.6, (tag, at)
            assert -0.6 <= y <= height + 0.6, (tag, at)


@st.composite
def estimates(draw):
    kind = draw(st.sampled_from(["rate", "exact", "unknown", "any"]))
    if kind == "rate":
        n = draw(st.integers(1, 10**6))
        return Estimate.rate(draw(st.integers(0, n)), n)
    if kind == "exact":
        return Estimate.exact(draw(st.floats(-1e6, 1e6)), n=3)
    low, value, high = sorted(draw(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3)))
    if kind == "unknown":
        return Estimate.unknown(low, high, method="m")
    return Estimate(value, low, high, n=9, method="m")


MARKS = st.builds(
    figures.Mark, NAME, estimates(), st.just("clean"), st.one_of(st.none(), estimates())
)


@given(st.lists(MARKS, max_size=6))
def test_intervals_stay_inside(marks):
    assert_inside(figures.intervals(marks, title="t"))


@given(st.lists(st.tuples(NAME, COUNT, COUNT), max_size=6))
def test_bars_stay_inside(lines):
    names, now, before = ([*x] for x in zip(*lines, strict=True)) if lines else ([], [], [])
    spans = [(n * 0.9, n * 1.1) for n in now]
    assert_inside(figures.bars(names, now, title="t", before=before, spans=spans))


@given(st.lists(st.tuples(COUNT, COUNT), min_size=1, max_size=40), st.floats(-1e6, 1e6))
def test_histograms_stay_inside(lines, low):
    plain, marked = ([*x] for x in zip(*lines, strict=True))
    edges = [low + i for i in range(len(lines) + 1)]
    assert_inside(figures.histogram(plain, marked, edges, title="t", threshold=low + 0.5))


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=9).map(sorted),
    st.one_of(st.none(), st.floats(0, 1e6)),
)
def test_curves_stay_inside(points, limit):
    assert_inside(figures.curve(points, title="t", limit=limit))


@given(st.lists(NAME, min_size=1, max_size=20, unique=True), COUNT)
def test_heat_stays_inside(names, n):
    cells = [[n if i != j else 0 for j in range(len(names))] for i in range(len(names))]
    assert_inside(figures.heat(names, cells, title="t"))


NODES = st.recursive(
    st.builds(graph.Node, NAME, NAME, st.just("step")),
    lambda inner: st.builds(
        graph.Node,
        NAME,
        NAME,
        st.just("step"),
        st.just(""),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=6,
)
FLAT = st.builds(graph.Node, NAME, NAME, st.just("step"))
ROWS = st.one_of(
    st.builds(graph.Row, st.lists(NODES, max_size=7), st.sampled_from(["chain", "trees"])),
    st.builds(graph.Row, st.lists(FLAT, max_size=16), st.just("frame"), NAME),
)


@given(st.lists(ROWS, max_size=5))
def test_the_lineage_stays_inside_and_draws_every_box(rows):
    drawn = graph.draw(rows, title="t")
    assert_inside(drawn)

    def boxes(nodes):
        return sum(1 + boxes(n.parts) for n in nodes)

    assert drawn.count('<g class="node') == sum(boxes(row.nodes) for row in rows)


@given(st.lists(ROWS, max_size=4))
def test_no_two_boxes_of_the_lineage_overlap(rows):
    drawn = graph.draw(rows, title="t")
    if not drawn:
        return
    _, _, elements = shapes(drawn)
    corners = [
        [*spots(tag, at)] for tag, at in elements if tag == "rect" and at.get("class") != "frame"
    ]
    for ((a, b), (c, d)), ((e, f), (g, h)) in itertools.combinations(corners, 2):
        assert a >= g or e >= c or b >= h or f >= d


@given(NAME)
def test_names_are_inert_in_every_figure(name):
    evil = f"<script>{name}</script>\"'"
    node = graph.Node(evil, evil, "step")
    for drawn in (
        figures.intervals([figures.Mark(evil, Estimate.rate(1, 9))], title=evil),
        figures.bars([evil], [1], title=evil),
        figures.heat([evil, "b"], [[0, 1], [0, 0]], title=evil, axes=(evil, evil)),
        figures.curve([(0, 0), (1, 1)], title=evil, axes=(evil, evil)),
        graph.draw([graph.Row([node], "frame", evil)], title=evil),
    ):
        assert "script" not in {tag for tag, _ in shapes(drawn)[2]}


def test_positions_are_proportional_to_values():
    marks = [figures.Mark(str(v), Estimate.exact(v, n=1)) for v in (0.0, 0.1, 0.2)]
    _, _, elements = shapes(figures.intervals(marks, title="t"))
    x = [float(at["cx"]) for tag, at in elements if tag == "circle"]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.11)
    assert x[2] > x[0]


def test_what_never_ran_has_a_box_and_no_edge():
    rows = [
        graph.Row([graph.Node("gate", "", "closed")], "chain"),
        graph.Row([graph.Node("train", "", "unrun"), graph.Node("b", "", "step")], "trees"),
    ]
    drawn = graph.draw(rows, title="t")
    assert drawn.count('<g class="node') == 3
    assert drawn.count('class="edge"') == 1


def test_a_scale_from_zero_has_the_zero():
    far = [figures.Mark("a", Estimate.rate(50, 100))]
    assert ">0\xa0%<" in figures.intervals(far, title="t", from_zero=True)
    assert ">0\xa0%<" not in figures.intervals(far, title="t")


def test_the_axis_of_shares_has_no_negative_tick():
    drawn = figures.intervals([figures.Mark("a", Estimate.rate(0, 50))], title="t")
    assert not re.search(r">[-−]", drawn)


def curve(plan, left, cost):
    """A forecast as a finding tells it, with bands of a tenth."""
    told = {"plan": plan}
    for name, values in (("tail_survival", left), ("cross_entropy_change", cost)):
        told[name] = values
        told[f"{name}_low"] = [v - 0.1 for v in values]
        told[f"{name}_high"] = [v + 0.1 for v in values]
    return told


def test_a_forecast_shows_the_tail_and_the_cost_with_bands():
    own = curve("replace 100%", [1.0, 0.7, 0.5], [0.0, 1.5, 3.0])
    other = curve("accumulate", [1.0, 1.0, 1.0], [0.0, 0.2, 0.3])
    details = {"forecast": own, "scenarios": [own, other]}
    drawn = str(findings._forecast({"details": details}))
    assert drawn.count("<polygon") == 4  # two plans in two pictures; the own plan is drawn once
    assert "Share of the tail that is left" in drawn
    assert "bits a word" in drawn
    assert "nats a far row" in str(findings._forecast({"details": {**details, "rows": 500}}))
    assert not str(findings._forecast({"details": {"why": "too little data"}}))


def test_bands_are_scaled_to_their_top():
    one = [Estimate(0.0, 0.0, 0.0, n=1, method="x"), Estimate(2.0, 1.0, 4.0, n=1, method="x")]
    low, high = (figures.bands([("plan", one)], title="t", most=m) for m in (4.0, 8.0))
    lines = [re.findall(r'<polyline points="([^"]*)"', drawn) for drawn in (low, high)]
    assert lines[0] != lines[1]
    assert ">4<" in low
    assert ">8<" in high
