"""Grafana's dashboard of our metrics, made from their table: a panel each, a row a room. Pure."""

from __future__ import annotations

import json
from typing import Any

from alpagasus_ray.metrics_table import METRICS, PREFIX, Metric

SCHEMA_VERSION = 39
"""Grafana 10's own (10.4); later ones read it and bring it up to date."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
ROOMS = {"judge": "The judges: grade, compare, mt-bench, agreement", "train": "Training"}
GRAFANA_UNITS = {
    "bytes": "bytes",
    "epochs": "none",
    "nats": "none",
    "ratio": "none",
    "requests": "short",
    "rows": "short",
    "rows_per_second": "suffix: rows/s",
    "seconds": "s",
    "steps": "short",
    "tokens": "short",
    "tokens_per_second": "suffix: tokens/s",
    "usd": "currencyUSD",
}
PERCENTILES = (0.5, 0.95)
COLUMNS, WIDTH, HEIGHT = 2, 12, 8


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana 10 and later import it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for room, title in ROOMS.items():
        metrics = [metric for metric in METRICS if metric.room == room]
        panels.append(_row(title, top))
        for place, metric in enumerate(metrics):
            x, y = place % COLUMNS * WIDTH, top + 1 + place // COLUMNS * HEIGHT
            panels.append(_panel(metric, {"h": HEIGHT, "w": WIDTH, "x": x, "y": y}))
        top += 1 + -(-len(metrics) // COLUMNS) * HEIGHT
    for number, panel in enumerate(panels, start=1):
        panel["id"] = number
    return {
        "title": "alpagasus_ray",
        "uid": "alpagasusRay",
        "tags": ["ray", "alpagasus"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": [_DATASOURCE_VARIABLE, _SESSION_VARIABLE]},
        "panels": panels,
    }


def dashboard_text() -> str:
    """Return the dashboard as the text of its file."""
    return json.dumps(dashboard(), indent=2) + "\n"


_SERIES_OPTIONS = {
    "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
    "tooltip": {"mode": "multi", "sort": "desc"},
}
_STAT_OPTIONS = {
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    "colorMode": "value",
    "graphMode": "area",
    "textMode": "value_and_name",
}
_DATASOURCE_VARIABLE = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "refresh": 1,
    "hide": 0,
    "includeAll": False,
    "multi": False,
}
# Each of Ray's sessions is a start of the cluster: the label is Ray's own, on all that it exports.
_SESSION = f"label_values({{__name__=~'{PREFIX}alpagasus_.*'}}, SessionName)"
_SESSION_VARIABLE = {
    "name": "SessionName",
    "label": "Ray session",
    "type": "query",
    "datasource": DATASOURCE,
    "definition": _SESSION,
    "query": {"query": _SESSION, "refId": "StandardVariableQuery"},
    "refresh": 2,
    "hide": 0,
    "includeAll": True,
    "allValue": ".*",
    "multi": False,
    "sort": 2,
    "current": {"selected": True, "text": "All", "value": "$__all"},
}


def _row(title: str, top: int) -> dict[str, Any]:
    place = {"h": 1, "w": COLUMNS * WIDTH, "x": 0, "y": top}
    return {"type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(metric: Metric, place: dict[str, int]) -> dict[str, Any]:
    unit, is_rate = GRAFANA_UNITS[metric.unit], metric.kind == "counter" and metric.unit != "usd"
    return {
        "type": "stat" if metric.unit == "usd" else "timeseries",
        "title": f"{metric.help} (a second)" if is_rate else metric.help,
        "description": f"`{metric.exported}`",
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10}}, "overrides": []},
        "options": _STAT_OPTIONS if metric.unit == "usd" else _SERIES_OPTIONS,
        "targets": [
            {"datasource": DATASOURCE, "refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
            for number, (query, legend) in enumerate(_queries(metric))
        ],
    }


def _queries(metric: Metric) -> list[tuple[str, str]]:
    """Return what Prometheus is asked for a panel, and what each answer is called."""
    labels = ", ".join(metric.labels)
    legend = ", ".join(f"{{{{{label}}}}}" for label in metric.labels)
    chosen = '{SessionName=~"$SessionName"}'
    if metric.kind == "histogram":
        rates = f"rate({metric.exported}_bucket{chosen}[$__rate_interval])"
        return [
            (f"histogram_quantile({share}, sum by (le, {labels}) ({rates}))", f"p{100 * share:g} {legend}")
            for share in PERCENTILES
        ]
    if metric.unit == "usd":  # each command counts from nothing; increase() would leave out its first dollars
        return [(f"sum by ({labels}) (max_over_time({metric.exported}{chosen}[$__range]))", legend)]
    if metric.kind == "counter":
        return [(f"sum by ({labels}) (rate({metric.exported}{chosen}[$__rate_interval]))", legend)]
    together = "sum" if metric.room == "judge" else "max"  # an arm is trained once at a time
    return [(f"{together} by ({labels}) ({metric.exported}{chosen})", legend)]
