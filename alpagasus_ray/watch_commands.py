"""The commands `status` and `dashboard`: how a run stands, and what Grafana shows of it."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

from alpagasus_ray.commands import Context
from alpagasus_ray.dashboard import dashboard_text
from alpagasus_ray.errors import UserError
from alpagasus_ray.live_metrics import figures_in_words, own_pages, read_figures
from alpagasus_ray.run_status import run_status

Add = Callable[..., argparse.ArgumentParser]


def add_watch_commands(add: Add) -> None:
    """Add both commands."""
    status = add("status", show_status, "how a run stands: what is done, under way, failed, left")
    status.add_argument("--json", action="store_true", help="as JSON")
    dashboard = add("dashboard", write_dashboard, "Grafana's dashboard of the metrics, as JSON")
    dashboard.add_argument("--out", metavar="FILE", help="where it goes (standard output)")


def show_status(context: Context) -> None:
    """Show how the run stands; while it is at work with what Ray's metrics say, where they can be read."""
    status = run_status(context.run, context.recipe)
    live = _live(context, status.progress["label"]) if status.is_running and status.progress else []
    if context.args.json:
        text = json.dumps({**status.to_dict(), "live": live}, indent=2, ensure_ascii=False)
    else:
        text = "\n".join([status.to_text(), *live])
    context.console.result(text)


def write_dashboard(context: Context) -> None:
    """Write the dashboard to a file, or show it."""
    if context.args.out is None:
        context.console.result(dashboard_text().rstrip("\n"))
        return
    try:
        Path(context.args.out).expanduser().write_text(dashboard_text(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--out {context.args.out}: {error.strerror}") from error
    context.console.result(context.args.out)


def _live(context: Context, label: str) -> list[str]:
    try:
        pages = own_pages(context.run) or _pages_of_cluster()
        figures, num_unread = read_figures(pages)
        unread = f"no figures from Ray's metrics of {num_unread} of {len(pages)} nodes: they cannot be read"
        lines = [f"now: {line}" for line in figures_in_words(figures, label)]
        return [*lines, *([unread] if num_unread else [])]
    except (OSError, UserError) as error:
        return [f"no figures from Ray's metrics: {error}"]


def _pages_of_cluster() -> list[str]:
    if not os.environ.get("RAY_ADDRESS"):
        raise UserError("RAY_ADDRESS does not say where the cluster is")
    # Imported here: seconds that need not be waited for elsewhere.
    from alpagasus_ray.ray_session import RaySession

    with RaySession() as session:
        return session.metrics_pages()
