"""What `alpagasus ledger` says: of each account's replies, of damage, of what a compaction did."""

from __future__ import annotations

import time

from pyarrow import fs

from alpagasus_ray.errors import UserError
from alpagasus_ray.llm.ledger_account import Account, read_through
from alpagasus_ray.llm.ledger_upkeep import compact
from alpagasus_ray.storage import Storage


def show(uri: str) -> str:
    """Return what each account of a ledger holds, in lines; every entry is read."""
    return "\n".join(line for name, folder in _accounts(uri) for line in _shown(name, read_through(folder)))


def verify(uri: str) -> str:
    """Return that all of a ledger can be read, in a line for each account.

    A line that a crash cut is said, and no damage. Raises UserError where anything else cannot be read.
    """
    lines, damaged = [], []
    for name, folder in _accounts(uri):
        account = read_through(folder)
        cut = f", {account.cut_lines:,} cut by a crash (asked again)" if account.cut_lines else ""
        lines.append(f"{name}: {account.entries:,} replies in {account.segments:,} files can be read{cut}")
        if account.bad_lines or account.bad_indexes:
            what = f"{account.bad_lines:,} lines hold no reply, {account.bad_indexes:,} indexes fit no file"
            damaged.append(f"{name}: {what}")
    if damaged:
        raise UserError(f"{'; '.join(damaged)}: `alpagasus ledger compact` leaves them out, all else is kept")
    return "\n".join(lines)


def compact_all(uri: str) -> str:
    """Compact every account of a ledger; return what was done, in a line each."""
    lines = []
    for name, folder in _accounts(uri):
        done = compact(folder)
        dropped = f", {done.dropped_lines:,} unreadable lines dropped" if done.dropped_lines else ""
        busy = f", {done.still_written:,} still being written left alone" if done.still_written else ""
        files = f"{done.segments_before:,} files are now {done.segments_after:,}"
        lines.append(f"{name}: {files}, {done.entries:,} replies rewritten{dropped}{busy}")
    return "\n".join(lines)


def _accounts(uri: str) -> list[tuple[str, str]]:
    """Return names and folders; raises UserError where there is no ledger."""
    storage = Storage(uri)
    infos = storage.filesystem.get_file_info(fs.FileSelector(storage.root, allow_not_found=True))
    names = sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)
    if not names:
        raise UserError(
            f"ledger {uri}: nothing is kept there: give --ledger FOLDER, or the --run-dir beside it"
        )
    return [(name, storage.child_uri(name)) for name in names]


def _shown(name: str, account: Account) -> list[str]:
    since = ""
    if account.first_at_s is not None and account.last_at_s is not None:
        since = f", {_day(account.first_at_s)} to {_day(account.last_at_s)}"
    twice = f", {account.repeated:,} stand twice" if account.repeated else ""
    size = f"{account.size_bytes / 1e6:,.1f} MB in {account.segments:,} files"
    lines = [f"{name}: {account.entries:,} replies, {size}{since}{twice}"]
    for model, use in sorted(account.models.items()):
        tokens = f"{use.prompt_tokens:,} prompt and {use.completion_tokens:,} completion tokens"
        lines.append(f"  {model}: {use.replies:,} replies, {tokens}")
    return lines


def _day(at_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at_s))
