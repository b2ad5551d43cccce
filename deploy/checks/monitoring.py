"""Alerts and the dashboard: right in themselves, and about metrics that there are."""

import json
import re
import tempfile
from pathlib import Path

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

METRIC = re.compile(r"\b(?:reseal|process)_[a-z_]+\b")


def prometheus(tools):
    folder = tools.deploy / "prometheus"
    faults = tools.faults(
        tools.run("promtool", "check", "config", "prometheus.yml", cwd=folder),
        tools.run("promtool", "test", "rules", "alerts.test.yml", cwd=folder),
    )
    rules = [rule for group in yaml.safe_load((folder / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    tests = (folder / "alerts.test.yml").read_text()
    page = (tools.root / "docs/src/operate/monitoring.md").read_text()
    for rule in rules:
        name = rule["alert"]
        if f'alertname="{name}"}}\', value: 1' not in tests:
            faults.append(f"{name}: no test raises it")
        if f"| `{name}` |" not in page:
            faults.append(f"{name}: docs/src/operate/monitoring.md does not say what to do")
        faults += unknown(tools, name, rule["expr"])
    for name in re.findall(r"^\| `(Reseal\w+)` \|", page, re.M):
        if name not in {rule["alert"] for rule in rules}:
            faults.append(f"docs/src/operate/monitoring.md has {name}, which is no alert")
    return faults


def grafana(tools):
    text = (tools.deploy / "grafana/reseal.json").read_text()
    dashboard = json.loads(text)
    register_default_plugins()
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    faults = [f"Grafana does not know {place}" for place in lost(dashboard, again)]
    panels = dashboard["panels"]
    if len({panel["id"] for panel in panels}) < len(panels):
        faults.append("two panels have one id")
    places = [(p["gridPos"]["x"] + i, p["gridPos"]["y"] + j) for p in panels for i in range(p["gridPos"]["w"]) for j in range(p["gridPos"]["h"])]
    if len(set(places)) < len(places) or any(x > 23 for x, _ in places):
        faults.append("panels lie on one another, or beyond the edge")
    rules, shown = [], set()
    for panel in panels:
        if panel["type"] != "row" and not panel.get("description"):
            faults.append(f"{panel['title']}: says nothing about what it shows")
        for target in panel.get("targets", []):
            expression = re.sub(r"\$__(?:rate_interval|range)", "5m", target["expr"]).replace("$job", "reseal").replace("$instance", ".*")
            if "$" in expression:
                faults.append(f"{panel['title']}: a variable is left in {expression}")
            rules.append({"record": "panel:" + re.sub(r"\W+", "_", panel["title"]) + target["refId"], "expr": expression})
            faults += unknown(tools, panel["title"], expression)
            shown |= families(expression)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rules.yml")
        file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
        faults += tools.faults(tools.run("promtool", "check", "rules", file))
    page = (tools.root / "docs/src/operate/logs.md").read_text()
    for name in sorted(tools.metrics()):
        if name not in shown:
            faults.append(f"{name} is on no panel")
        if name not in page:
            faults.append(f"{name} is not in docs/src/operate/logs.md")
    return faults


def families(expression):
    """The names of the metrics in an expression, without what a histogram adds."""
    names = METRIC.findall(re.sub(r'"[^"]*"', "", expression))
    return {re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", name) for name in names}


def unknown(tools, where, expression):
    return [f"{where}: the server has no metric {name}" for name in sorted(families(expression) - tools.metrics())]


def lost(before, after, place=""):
    """What is in `before` and not the same in `after`."""
    if isinstance(before, dict):
        for key, value in before.items():
            if not isinstance(after, dict) or key not in after:
                yield f"{place}/{key}"
            else:
                yield from lost(value, after[key], f"{place}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (a, b) in enumerate(zip(before, after)):
            yield from lost(a, b, f"{place}/{i}")
    elif before != after:
        yield place
