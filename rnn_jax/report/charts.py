"""Charts as SVG that takes its colours from the page, so that they are right on light and on dark."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 46
MOST_POINTS, MOST_DOTS, COLOURS = 200, 1000, 8
Range: TypeAlias = tuple[float, float]


class Curve(NamedTuple):
    """A line of a chart.

    Attributes:
      name: what the legend says.
      x, y: float[n], the points, from left to right.
      colour: which of the page's colours; None is the place of the line among those of its chart.

    >>> Curve("train", np.array([1, 2]), np.array([0.5, 0.25])).name
    'train'
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: int | None = None


def line_chart(
    title: str,
    curves: Sequence[Curve],
    x_label: str,
    y_label: str,
    *,
    unit: bool = False,
    diagonal: bool = False,
) -> Markup:
    """Returns an SVG of lines with a legend below it.

    Args:
      title: what a screen reader says of the chart.
      curves: the lines; more than 200 points of one are thinned out.
      x_label, y_label: of the axes.
      unit: both axes go from 0 to 1, otherwise they fit the data.
      diagonal: a dashed line from corner to corner, for comparison.

    >>> chart = line_chart("Loss", [Curve("<a>", np.array([1, 2]), np.array([3.0, 1.0]))], "step", "loss")
    >>> chart.count("<polyline"), "&lt;a&gt;" in chart
    (1, True)
    """
    x_range = (0.0, 1.0) if unit else _range([curve.x for curve in curves])
    y_range = (0.0, 1.0) if unit else _range([curve.y for curve in curves])
    parts = _axes(x_range, y_range, x_label, y_label)
    if diagonal:
        corners = _points(np.array(x_range), np.array(y_range), x_range, y_range)
        parts.append(f'<polyline class="even" points="{corners}"/>')
    for index, curve in enumerate(curves):
        x, y = _thinned(curve)
        points, colour = _points(x, y, x_range, y_range), _colour(curve, index)
        parts.append(f'<polyline class="{colour}" points="{points}"/>')
        if len(x) <= 12:
            marks = (point.split(",") for point in points.split())
            parts += [f'<circle class="{colour}" cx="{a}" cy="{b}" r="3.5"/>' for a, b in marks]
    legend = "".join(
        f'<li><i class="{_colour(curve, index)}"></i>{escape(curve.name)}</li>'
        for index, curve in enumerate(curves)
    )
    return Markup(f"{_svg(title, parts)}<ul class='legend'>{legend}</ul>")


def _colour(curve: Curve, index: int) -> str:
    return f"c{(index if curve.colour is None else curve.colour) % COLOURS}"


def bar_chart(
    title: str, bars: Sequence[tuple[str, float, int]], x_label: str, y_label: str, *, shares: bool = True
) -> Markup:
    """Returns an SVG of bars, each with its name, its height and how many texts it stands for.

    The heights are `shares`, from 0 to 1, or go from 0 to the largest.

    >>> bar_chart("By length", [("1-9", 0.5, 12)], "words", "accuracy").count("<rect")
    1
    """
    unit = (0.0, 1.0 if shares else max([1e-9, *(value for _, value, _ in bars)]))
    parts = _axes(None, unit, x_label, y_label)
    width = (WIDTH - LEFT - RIGHT) / max(len(bars), 1)
    for index, (name, value, count) in enumerate(bars):
        left, top = LEFT + index * width, _place(np.array(value), unit, HEIGHT - BOTTOM, TOP)
        middle, height = left + width / 2, HEIGHT - BOTTOM - top
        short = f"{value:.0%}" if shares else f"{value:.3g}"
        shown = f"{escape(name)}: {f'{value:.1%}' if shares else short} of {count:,} texts"
        parts.append(
            f'<rect class="c0" x="{left + 3:.1f}" y="{top:.1f}" width="{width - 6:.1f}" '
            f'height="{height:.1f}">'
            f"<title>{shown}</title></rect>"
            f'<text class="small" x="{middle:.1f}" y="{top - 3:.1f}" text-anchor="middle">{short}</text>'
            f'<text class="small" x="{middle:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">'
            f"{escape(name)}</text>"
        )
    return _svg(title, parts)


def scatter_chart(title: str, x: np.ndarray, y: np.ndarray, x_label: str, y_label: str) -> Markup:
    """Returns an SVG of points, and the dashed line on which y is x; of more than 1,000 points a share.

    >>> scatter_chart("Numbers", np.array([1.0, 2.0]), np.array([1.5, 2.5]), "true", "said").count("<circle")
    2
    """
    both = _range([x, y])
    corners = _points(np.array(both), np.array(both), both, both)
    parts = [*_axes(both, both, x_label, y_label), f'<polyline class="even" points="{corners}"/>']
    rows = np.linspace(0, len(x) - 1, min(len(x), MOST_DOTS)).astype(int)
    for point in _points(x[rows], y[rows], both, both).split():
        a, b = point.split(",")
        parts.append(f'<circle class="c0" cx="{a}" cy="{b}" r="3" fill-opacity="0.5"/>')
    return _svg(title, parts)


def _svg(title: str, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _axes(x_range: Range | None, y_range: Range, x_label: str, y_label: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in _ticks(y_range):
        y = _place(np.array(value), y_range, bottom, TOP)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    x_range, x_ticks = (x_range, _ticks(x_range)) if x_range else ((0.0, 1.0), [])
    for value in x_ticks:
        x = _place(np.array(value), x_range, LEFT, right)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:.6g}</text>')
    middle = (TOP + bottom) / 2
    parts += [
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    ]
    return parts


def _ticks(between: Range) -> list[float]:
    from matplotlib.ticker import MaxNLocator

    low, high = between
    return [float(tick) for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]


def _range(values: Sequence[np.ndarray]) -> Range:
    every = np.concatenate([np.asarray(part, float) for part in values])
    every = every[np.isfinite(every)]
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _place(values: np.ndarray, between: Range, start: float, end: float) -> np.ndarray:
    return start + (values - between[0]) / (between[1] - between[0]) * (end - start)


def _thinned(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
    finite = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(finite) > MOST_POINTS:
        finite = finite[np.linspace(0, len(finite) - 1, MOST_POINTS).astype(int)]
    return x[finite], y[finite]


def _points(x: np.ndarray, y: np.ndarray, x_range: Range, y_range: Range) -> str:
    xs, ys = _place(x, x_range, LEFT, WIDTH - RIGHT), _place(y, y_range, HEIGHT - BOTTOM, TOP)
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(xs, ys, strict=True))
