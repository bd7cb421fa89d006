"""The live charts of the page as Vega-Lite: what is drawn stands here, the page's script only hands over the rows.

Rows have the names that the encodings below use. A chart of the plane takes ``points`` and ``components``, the chart of
errors ``errors``; the parameters ``limit`` (half the width of the plane) and ``step`` are set from outside.
"""

from __future__ import annotations

from typing import Any

import altair as alt

from tgmm.figures.style import GREY, INK, SERIES

OUTLINE = 2.0  # standard deviations from the mean to the outline: 86 % of a component
COMPONENTS = list(range(1, len(SERIES) + 1))
COLOURS = alt.Scale(domain=COMPONENTS, range=list(SERIES))
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross"]
FONT = "system-ui, sans-serif"


def specifications() -> dict[str, dict[str, Any]]:
    """Name of each chart's place on the page -> its specification."""
    captions = {
        "fit": "Points of a task, its true components and those that the method found",
        "em": "The components after so many iterations of EM",
        "network": "The components that the network reads out after so many blocks",
    }
    charts = {name: plane(text) for name, text in captions.items()} | {"errors": errors()}
    return {name: chart.configure(font=FONT).configure_view(stroke=None).to_dict() for name, chart in charts.items()}


def plane(description: str) -> alt.LayerChart:
    """Points in the colours of their most probable components, and the components' outlines; dashed is the truth."""
    limit = alt.param(name="limit", value=10)
    axes = {name: _coordinate(name, limit) for name in ("x", "y")}
    return (
        alt.layer(_points(axes), *_outlines(axes), _means(axes))
        .add_params(limit)
        .properties(width="container", height="container", description=description)
    )


def _points(axes: dict[str, alt.X | alt.Y]) -> alt.Chart:
    certainty = alt.Scale(domain=[0.3, 1], range=[0.25, 0.85])
    tooltip = [
        alt.Tooltip("responsibilities:N", title="responsibilities"),
        alt.Tooltip("true:N", title="drawn from"),
        alt.Tooltip("x:Q", format=".2f"),
        alt.Tooltip("y:Q", format=".2f"),
    ]
    return (
        alt.Chart(alt.NamedData("points"))
        .mark_point(filled=True, size=42, clip=True)
        .encode(
            **axes,
            color=alt.Color("component:N", scale=COLOURS, legend=None),
            shape=alt.Shape("component:N", scale=alt.Scale(domain=COMPONENTS, range=SHAPES), legend=None),
            opacity=alt.Opacity("certainty:Q", scale=certainty, legend=None),
            tooltip=tooltip,
        )
    )


def _outlines(axes: dict[str, alt.X | alt.Y]) -> tuple[alt.Chart, alt.Chart]:
    """Of the truth, dashed, and of the estimate: ellipses ``OUTLINE`` standard deviations from each mean."""
    ellipses = (
        alt.Chart(alt.NamedData("components"))
        .transform_calculate(angle="sequence(0, 6.4, 0.1)")
        .transform_flatten(["angle"])
        .transform_calculate(
            x=f"datum.x + {OUTLINE} * datum.sx * cos(datum.angle)",
            y=f"datum.y + {OUTLINE} * datum.sy * sin(datum.angle)",
        )
        .encode(**axes, order="angle:Q", detail="component:N")
    )
    truth = ellipses.transform_filter("datum.kind == 'truth'")
    found = ellipses.transform_filter("datum.kind == 'estimate'").mark_line(clip=True)
    width = alt.StrokeWidth("weight:Q", scale=alt.Scale(domain=[0, 1], range=[0.8, 5]), legend=None)
    return (
        truth.mark_line(color=INK, strokeDash=[5, 3], strokeWidth=1.3, clip=True),
        found.encode(color=alt.Color("component:N", scale=COLOURS, legend=None), strokeWidth=width),
    )


def _means(axes: dict[str, alt.X | alt.Y]) -> alt.Chart:
    return (
        alt.Chart(alt.NamedData("components"))
        .transform_filter("datum.kind == 'estimate'")
        .mark_point(size=170, strokeWidth=1.5, filled=True, stroke=INK, shape="diamond", clip=True)
        .encode(
            **axes,
            fill=alt.Fill("component:N", scale=COLOURS, legend=None),
            tooltip=[alt.Tooltip("component:N"), alt.Tooltip("weight:Q", format=".3f")],
        )
    )


def _coordinate(name: str, limit: alt.Parameter) -> alt.X | alt.Y:
    axis = alt.Axis(title=None, grid=False, tickCount=5, domainColor=GREY, tickColor=GREY, labelColor=INK)
    scale = alt.Scale(domainMin=alt.expr(f"-{limit.name}"), domainMax=alt.expr(limit.name), nice=False, zero=False)
    channel = alt.X if name == "x" else alt.Y
    return channel(f"{name}:Q", axis=axis, scale=scale)


def errors() -> alt.LayerChart:
    """The l2-error after every step, of EM and of the network, and a rule at the step that is shown."""
    step = alt.param(name="step", value=0)
    path = alt.Color(
        "path:N",
        scale=alt.Scale(domain=["EM", "network"], range=[SERIES[4], SERIES[0]]),
        legend=alt.Legend(title=None, orient="top"),
    )
    lines = (
        alt.Chart(alt.NamedData("errors"))
        .mark_line(point=True)
        .encode(
            x=alt.X(
                "step:Q", title="iterations of EM, blocks of the network", axis=alt.Axis(tickMinStep=1, grid=False)
            ),
            y=alt.Y("error:Q", title="ℓ2-error", scale=alt.Scale(type="log"), axis=alt.Axis(tickCount=4, format="~g")),
            color=path,
            tooltip=["path:N", "step:Q", alt.Tooltip("error:Q", format=".3g")],
        )
    )
    rule = (
        alt.Chart(alt.Data(values=[{}]))
        .transform_calculate(step="step")
        .mark_rule(color=GREY, strokeDash=[3, 3])
        .encode(x="step:Q")
    )
    description = "The error of EM after every iteration beside that of the network after every block"
    return alt.layer(rule, lines).add_params(step).properties(width="container", height=190, description=description)
