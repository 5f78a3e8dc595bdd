"""Charts of the page."""

from typing import Any, Final

import altair as alt

from slicewise.domain.wording import reword

TUMOUR: Final = "#d4541b"
AREA: Final = "#3578b5"
_GREY: Final = "#7c8796"


def class_bars(shares: dict[str, float]) -> alt.LayerChart:
    """Return a bar for the probability of each class, the most probable first."""
    rows = [{"class": name.replace("_", " "), "probability": share} for name, share in shares.items()]
    base = alt.Chart(alt.InlineData(rows)).encode(
        x=alt.X("probability:Q", title=None, scale=alt.Scale(domain=[0, 1.12]), axis=None),
        y=alt.Y("class:N", title=None, sort="-x"),
    )
    text = base.mark_text(align="left", dx=4, color=_GREY, fontSize=13).encode(
        text=alt.Text("probability:Q", format=".1%")
    )
    return alt.LayerChart(layer=(base.mark_bar(color=TUMOUR), text), height=40 * len(rows) + 10)


def slice_curve(
    slices: list[dict[str, Any]], threshold: float | None, *, has_probability: bool, has_area: bool
) -> alt.LayerChart:
    """Return the probability and the area of the mask over the slices, which count from 1 at the feet.

    A single slice becomes a pair of dots.
    """
    rows = [
        {
            "slice": each["index"] + 1,
            "probability": each["probability"],
            "area": _square_cm(each["tumour_mm2"]),
        }
        for each in slices
    ]
    x = alt.X(
        "slice:Q", title="Slice (feet to head)", axis=alt.Axis(tickMinStep=1, format="d"),
        scale=alt.Scale(domain=[1, len(rows)] if len(rows) > 1 else [0, 2], nice=False),
    )  # fmt: skip
    chart = alt.Chart(alt.InlineData(rows))
    layers: list[alt.Chart | alt.LayerChart] = []
    single = len(rows) == 1
    if has_area:
        title = reword("Tumour area (cm²)")
        y = alt.Y("area:Q", title=title, axis=alt.Axis(titleColor=AREA, orient="right"))
        mark = chart.mark_area(
            line={"color": AREA}, color=AREA, opacity=0.25, point={"color": AREA} if single else False
        )
        layers.append(mark.encode(x=x, y=y))
    if has_probability:
        y = alt.Y(
            "probability:Q", title="Probability", scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format="%", titleColor=TUMOUR, orient="left"),
        )  # fmt: skip
        curve = chart.mark_line(
            color=TUMOUR, strokeWidth=2, point={"color": TUMOUR} if single else False
        ).encode(x=x, y=y)
        rule = alt.Chart(alt.InlineData([] if threshold is None else [{"probability": threshold}]))
        dashes = rule.mark_rule(strokeDash=[5, 4], color=_GREY).encode(y=y)
        layers.append(alt.LayerChart(layer=[curve, dashes]))
    chart_of_both: alt.LayerChart = alt.LayerChart(layer=layers, height=240).resolve_scale(y="independent")
    return chart_of_both


def _square_cm(square_mm: float | None) -> float | None:
    return None if square_mm is None else square_mm / 100
