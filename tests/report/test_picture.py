"""Labels in pictures cover neither each other nor a point, however close the points are."""

import random
from collections.abc import Sequence
from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from speakerquant.architectures.ecapa_tdnn.published import PUBLISHED
from speakerquant.report.mask_words import mask_name
from speakerquant.report.picture import Mark, Picture, Series, Style, to_plotly
from speakerquant.report.png_picture import to_matplotlib

from .conftest import UNITS, MakeMask, MakeRun, drawn

SIZES = (0.97, 0.86, 0.86, 0.86, 0.76, 0.92, 0.98)


def picture_of(marks: Sequence[Mark]) -> Picture:
    return Picture("title", "x", "y", [Series("points", marks, Style("steelblue", size=6))])


def assert_labels_are_clear(picture: Picture, labels: set[str]) -> Figure:
    """Every label is written, inside the axes, and covers no other label and no mark of any series."""
    figure = to_matplotlib(picture)
    figure.draw_without_rendering()
    [axes] = figure.axes
    # Text's own extent: an annotation's has its line to the point in it.
    boxes = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}
    assert {line for label in boxes for line in label.split("\n")} == labels
    assert len(boxes) == len(axes.texts)
    for (one, box), (other, other_box) in combinations(boxes.items(), 2):
        assert not box.overlaps(other_box), f"{one} lies over {other}"
    for series in picture.series:
        radius = series.style.size / 72 * figure.dpi / 2
        for mark in series.marks:
            center = axes.transData.transform((mark.x, mark.y))
            disc = Bbox([center - radius, center + radius])
            assert [label for label, box in boxes.items() if box.overlaps(disc)] == []
    assert all(
        Bbox.intersection(axes.bbox, box).extents == pytest.approx(box.extents) for box in boxes.values()
    )
    return figure


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param((-0.1, 0.015, 0.051, 0.15, 0.023, 0.016, 0.0), id="as measured"),
        pytest.param((-0.002, 0.001, 0.002, 0.0005, 0.0, 0.001, 0.0), id="nearly no loss"),
        pytest.param((0.01,) * 7, id="equal losses"),
    ],
)
def test_single_units_beside_the_papers(
    make_mask: MakeMask, make_run: MakeRun, losses: tuple[float, ...]
) -> None:
    runs = [
        make_run(make_mask(), 0.0, 1.0),
        *(
            make_run(make_mask(unit), loss, size)
            for unit, loss, size in zip(UNITS, losses, SIZES, strict=True)
        ),
    ]
    assert_labels_are_clear(drawn(runs), {"none", *UNITS})


def test_long_names_close_together(make_mask: MakeMask, make_run: MakeRun) -> None:
    masks = [
        make_mask(*PUBLISHED.proposed_units),
        make_mask(*UNITS[:3], *UNITS[4:]),
        make_mask(*UNITS),
        make_mask("aggregation_conv", "attentive_pooling", se_res2block3="fp16", embedding_linear="fp16"),
    ]
    runs = [make_run(mask, 0.07 + index * 1e-4, 0.53) for index, mask in enumerate(masks)]
    assert_labels_are_clear(drawn(runs), {mask_name(mask) for mask in masks})


@pytest.mark.parametrize("seed", range(2))
def test_one_unit_per_layer(seed: int) -> None:
    generator = random.Random(seed)
    marks = [
        Mark(generator.uniform(0.98, 1.0), generator.gauss(0, 0.02), label=f"se_res2block{index}.res2_conv")
        for index in range(38)
    ]
    assert_labels_are_clear(picture_of(marks), {mark.label for mark in marks})


def test_the_picture_grows_until_its_labels_have_room() -> None:
    name = "a_name_that_takes_up_much_of_the_picture_because_it_is_so_very_long_{}"
    marks = [Mark(index % 10, index // 10, label=name.format(index)) for index in range(70)]
    figure = assert_labels_are_clear(picture_of(marks), {mark.label for mark in marks})
    assert figure.get_figwidth() > to_matplotlib(picture_of(marks[:2])).get_figwidth()


def test_title_and_legend_stay_within_the_picture() -> None:
    style = Style("steelblue", size=6)
    series = [
        Series(f"model.checkpoint=a_network_of_some_name_{number}.onnx", [Mark(1, number)], style)
        for number in range(4)
    ]
    title = (
        "search-1a2b3c4d: 40 of 40 trials, on the development list, engines built, not run: rates by another"
    )
    figure = to_matplotlib(Picture(title, "x", "y", series))
    figure.draw_without_rendering()
    [axes], [legend] = figure.axes, figure.legends
    for part in (axes.title, legend):
        extent = part.get_window_extent()
        assert extent.x0 >= 0 and extent.x1 <= figure.bbox.x1


def test_points_at_the_same_place_share_a_label() -> None:
    marks = [Mark(1, 1, label="one"), Mark(1, 1, label="two"), Mark(2, 3), Mark(2, 4, label="$x_1$ [y]")]
    [axes] = to_matplotlib(picture_of(marks)).axes
    assert [text.get_text() for text in axes.texts] == ["one\ntwo", "$x_1$ [y]"]


def test_labels_lie_beside_the_bars_of_intervals() -> None:
    marks = [Mark(x, x, label=f"a_name_of_some_length_{x}", interval=(-1, 4)) for x in (1, 2, 3)]
    figure = assert_labels_are_clear(picture_of(marks), {mark.label for mark in marks})
    [axes] = figure.axes
    for mark in marks:
        bar = Bbox(axes.transData.transform([(mark.x, -1), (mark.x, 4)]))
        assert not any(Text.get_window_extent(text).overlaps(bar) for text in axes.texts)


def test_a_page_names_the_series_that_its_legend_has_room_for_and_breaks_long_titles() -> None:
    def page(number: int) -> Figure:
        series = [Series(f"mask {i}", [Mark(i, i)], Style("steelblue", 6)) for i in range(number)]
        return to_plotly(Picture("a long title " * 20, "x", "y", series))

    few, many = page(12), page(13)
    assert all(each.showlegend for each in few.data)
    assert not any(each.showlegend for each in many.data)
    assert max(map(len, few.layout.title.text.split("<br>"))) <= 80


def test_a_point_that_is_not_finite_is_left_out() -> None:
    marks = [Mark(1, 1, label="here"), Mark(float("nan"), 1, label="nowhere")]
    assert_labels_are_clear(picture_of(marks), {"here"})


def test_a_picture_without_points_is_empty() -> None:
    [axes] = to_matplotlib(Picture("title", "x", "y", [])).axes
    assert not axes.texts
