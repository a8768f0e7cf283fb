"""The table of metrics, what the code emits and what the dashboard shows: all the same."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

import alpagasus_ray
from alpagasus_ray import metrics_table
from alpagasus_ray.cli import main
from alpagasus_ray.dashboard import GRAFANA_UNITS, ROOMS, dashboard, dashboard_text
from alpagasus_ray.metrics_table import METRICS, Metric

PACKAGE = Path(alpagasus_ray.__file__).parent
SHIPPED = PACKAGE.parent / "cluster" / "grafana_dashboard.json"
CONSTANTS = {name: value for name, value in vars(metrics_table).items() if isinstance(value, Metric)}
PER = "_per_"
KIND_OF_CALL = {"add": "counter", "show": "gauge", "observe": "histogram"}
BOUNDED_LABELS = {"stage", "model", "account", "kind", "arm"}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_name_says_room_and_unit_as_prometheus_wants_it(metric: Metric) -> None:
    assert re.fullmatch(r"alpagasus_(judge|train)(_[a-z]+)+", metric.name)
    assert metric.room in ROOMS
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    unit = metric.unit.removeprefix("rows") if PER in metric.unit else metric.unit
    assert metric.name.removesuffix("_total").endswith(f"_{unit.lstrip('_')}"), "the unit stands last"
    assert metric.unit in GRAFANA_UNITS
    assert set(metric.labels) <= BOUNDED_LABELS, "no label of unbounded values, and no secret"
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert metric.help and not metric.help.endswith(".")


def test_no_two_metrics_have_the_same_name() -> None:
    names = [metric.name for metric in METRICS]
    assert sorted(set(names)) == sorted(names)
    assert set(CONSTANTS.values()) == set(METRICS)


def test_every_metric_is_emitted_as_what_it_is_and_none_besides() -> None:
    """Read from the code: only metering modules use a Meter, and Ray's own classes stand in one place."""
    emitted: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if path.name not in ("metrics_table.py", "ray_metrics.py"):
            assert "ray.util.metrics" not in source, f"{path.name}: a metric outside the table"
            assert path.name == "metering.py" or "ray_metrics import Meter" not in source
        if path.name == "metering.py":
            emitted |= _names_in(ast.parse(source))
    assert emitted == set(CONSTANTS)


def _names_in(tree: ast.AST) -> set[str]:
    """Return the metrics that a module hands to its Meter, by call or in a table that it goes through."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in CONSTANTS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            metric = CONSTANTS.get(getattr(node.args[0], "id", ""))
            if metric is not None and node.func.attr in KIND_OF_CALL:
                assert KIND_OF_CALL[node.func.attr] == metric.kind, metric.name
    return found


def _targets() -> list[tuple[dict[str, Any], str]]:
    return [
        (panel, target["expr"])
        for panel in dashboard()["panels"]
        if panel["type"] != "row"
        for target in panel["targets"]
    ]


def test_every_metric_is_on_the_dashboard_and_nothing_else() -> None:
    shown = {name for _, query in _targets() for name in re.findall(r"ray_alpagasus_\w+", query)}
    exported = {metric.exported + ("_bucket" if metric.buckets else "") for metric in METRICS}
    assert shown == exported


def test_the_queries_suit_the_kinds() -> None:
    by_name = {metric.exported: metric for metric in METRICS}
    for panel, query in _targets():
        (name,) = re.findall(r"ray_alpagasus_\w+", query)
        metric = by_name[name.removesuffix("_bucket")]
        assert query.count("(") == query.count(")") and query.count("{") == query.count("}")
        assert ("rate(" in query) == (metric.kind != "gauge" and metric.unit != "usd")
        assert ("histogram_quantile(" in query) == (metric.kind == "histogram")
        (labels,) = re.findall(r"by \(([^)]*)\)", query)
        assert labels.removeprefix("le, ").split(", ") == list(metric.labels)
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_grafana_finds_what_it_needs() -> None:
    made = dashboard()
    assert made["schemaVersion"] >= 36, "Grafana 10 and later"
    assert [one["name"] for one in made["templating"]["list"]] == ["datasource", "SessionName"]
    ids = [panel["id"] for panel in made["panels"]]
    assert sorted(set(ids)) == ids
    places = [tuple(panel["gridPos"][key] for key in "xywh") for panel in made["panels"]]
    cells = [(x + i, y + j) for x, y, w, h in places for i in range(w) for j in range(h)]
    assert len(set(cells)) == len(cells), "panels lie on each other"
    assert max(x for x, _ in cells) == 23


def test_the_shipped_dashboard_is_what_the_code_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = dashboard_text()
    assert SHIPPED.read_text(encoding="utf-8") == wanted, (
        "alpagasus dashboard --out cluster/grafana_dashboard.json"
    )
    assert main(["dashboard", "--run-dir", str(tmp_path / "run")]) == 0
    assert json.loads(capsys.readouterr().out) == dashboard()
    assert main(["dashboard", "--out", str(tmp_path / "made.json")]) == 0
    assert (tmp_path / "made.json").read_text(encoding="utf-8") == wanted
    assert not (tmp_path / "run").exists()


def test_a_dashboard_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboard", "--out", str(tmp_path / "none" / "made.json")]) == 2
    assert "none/made.json: No such file" in capsys.readouterr().err
