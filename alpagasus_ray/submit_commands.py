"""The commands `submit` and `jobs`: a stage on a cluster, as a Ray job that can be left and come back to."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from alpagasus_ray.console import Console
from alpagasus_ray.errors import UserError
from alpagasus_ray.submit.submission import STAGES, Submission, check_holds_no_secret, submission
from alpagasus_ray.submit.working_folder import WorkingFolder, named_texts

if TYPE_CHECKING:
    from alpagasus_ray.submit.ray_jobs import JobServer

Parse = Callable[[Sequence[str]], argparse.Namespace]
ADDRESS_HELP = "the cluster's job server, http://HEAD:8265 (or RAY_API_SERVER_ADDRESS, or RAY_ADDRESS)"
MAX_WORDS = 300
OF_THE_CLUSTER = ("run_dir", "command", "act", "arm", "arms")
"""Parsed flags that name no file of the user's."""


class _Flags(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see alpagasus submit --help)")


def add_submit_commands(subparsers: Any) -> None:
    """Add both commands."""
    text = "run a stage as a job on a Ray cluster; its own flags follow its name"
    command = subparsers.add_parser(
        "submit", help=text, description=text, parents=[own_flags()], allow_abbrev=False
    )
    command.add_argument("stage", choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    command.add_argument("flags", nargs=argparse.REMAINDER, help="as the command of that name takes them")
    command.set_defaults(on_cluster=submit)

    text = "the jobs of a cluster: list, status, logs, follow, stop"
    jobs = subparsers.add_parser("jobs", help=text, description=text, allow_abbrev=False)
    jobs.add_argument("action", choices=["list", *ACTIONS])
    jobs.add_argument("job_id", nargs="?", metavar="JOB_ID", help="as `submit` and `jobs list` say it")
    jobs.add_argument("--address", help=ADDRESS_HELP)
    jobs.set_defaults(on_cluster=act_on_jobs)


def own_flags() -> argparse.ArgumentParser:
    """Return the parser of the flags of `submit` itself, which may stand among the stage's."""
    parser = _Flags(add_help=False, allow_abbrev=False)
    parser.add_argument("--address", help=ADDRESS_HELP)
    parser.add_argument("--working-dir", default=".", help="the folder that is sent, with the files named")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="of it not sent, as in a .gitignore"
    )
    parser.add_argument(
        "--install",
        metavar="FILE",
        help="requirements that the nodes install (none: what the image has)",
    )
    parser.add_argument("--no-wait", action="store_true", help="leave the job alone once it is submitted")
    return parser


def submit(args: argparse.Namespace, parse: Parse, load: Callable[..., object], console: Console) -> int:
    """Submit a stage, and follow it to its end; return its exit status.

    `parse` reads a command line as the stage will, `load` its recipe. Raises UserError for what can be known
    here to be wrong.
    """
    given, arguments = own_flags().parse_known_args(args.flags, namespace=args)
    check_holds_no_secret(args.stage, arguments)  # before anything repeats them
    address = cluster_address(given.address)
    folder = Path(given.working_dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"--working-dir {given.working_dir}: there is no such folder")
    install = given.install and _requirements(given.install)
    # As the job sees it: names of files are looked up in the folder that it is sent with.
    folder = folder.resolve()
    os.chdir(folder)
    staged = parse([args.stage, *arguments])
    wanted = submission(args.stage, arguments, staged.run_dir)

    # Imported here: --help and a wrong flag need not wait for Ray.
    from alpagasus_ray.submit.ray_jobs import LIMIT_BYTES, JobServer, working_folder

    sent = working_folder(folder, given.exclude)
    _check_files(staged, sent, load)
    sent.check_size(LIMIT_BYTES)
    server = JobServer(address)
    job_id, is_new = server.submit(wanted, folder, given.exclude, install)
    _say_what_it_is(wanted, job_id, is_new, console)
    if given.no_wait:
        console.result(job_id)
        console.say(_ways_back(job_id, address))
        return 0
    return _follow(server, job_id, address, console)


def act_on_jobs(args: argparse.Namespace, parse: Parse, load: Callable[..., object], console: Console) -> int:
    """List a cluster's jobs, or show, follow or stop one; return the exit status."""
    address = cluster_address(args.address)
    if (args.action == "list") != (args.job_id is None):
        raise UserError(f"jobs {args.action} " + ("takes no JOB_ID" if args.job_id else "wants a JOB_ID"))

    from alpagasus_ray.submit.ray_jobs import JobServer

    server = JobServer(address)
    if args.action == "list":
        console.result("\n".join(_row(job) for job in server.jobs()) or "no jobs yet")
        return 0
    return ACTIONS[args.action](server, args.job_id, address, console)


def cluster_address(given: str | None) -> str:
    """Return the job server's address, from a flag or as Ray reads it; raises UserError where it is none."""
    from_ray = os.environ.get("RAY_ADDRESS", "")
    address = given or os.environ.get("RAY_API_SERVER_ADDRESS")
    # RAY_ADDRESS may also be where Ray itself listens, and that is no job server.
    address = address or (from_ray if from_ray.startswith("http") else None)
    if address is None:
        raise UserError("which cluster? Give --address http://HEAD:8265, or set RAY_API_SERVER_ADDRESS")
    whole = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(whole)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise UserError(f"{address} is no job server's address: write it as http://HEAD:8265")
    if parts.username or parts.password:
        raise UserError("the cluster's address has a password in it: a token comes from RAY_AUTH_TOKEN")
    return whole.rstrip("/")


def _requirements(name: str) -> str:
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise UserError(f"--install {name}: there is no such file of requirements")
    return str(path)


def _check_files(staged: argparse.Namespace, sent: WorkingFolder, load: Callable[..., object]) -> None:
    flags = {name: value for name, value in vars(staged).items() if name not in OF_THE_CLUSTER}
    for name, text in named_texts(flags):
        sent.check_carried(text, name)
    out = getattr(staged, "out", None)
    if out is not None and "://" not in out and not out.startswith("/"):
        raise UserError(f"--out {out} is lost with its job: give the whole path of a folder of all nodes")
    # Without one the stage reads the run's own, which may be out of reach from here.
    if staged.recipe is not None:
        recipe: Any = load(staged)
        for name, text in named_texts(recipe.model_dump(mode="json")):
            sent.check_carried(text, name)


def _say_what_it_is(wanted: Submission, job_id: str, is_new: bool, console: Console) -> None:
    how = f"submitted, {wanted.stage} on {wanted.run_dir}" if is_new else "is at work already"
    console.say(f"{job_id}: {how}")


def _follow(server: JobServer, job_id: str, address: str, console: Console) -> int:
    from alpagasus_ray.submit.ray_jobs import STOPPED, exit_status

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        job = server.follow(job_id, write)
    except KeyboardInterrupt:
        console.say(f"\n{job_id} goes on. {_ways_back(job_id, address)}")
        return 130
    status = exit_status(job)
    if status:
        # Without an exit status of its own there are only Ray's words.
        is_told = job.driver_exit_code is not None or status == STOPPED
        reason = "" if is_told else f": {' '.join((job.message or '').split())[:MAX_WORDS]}"
        ended = "has been stopped" if status == STOPPED else f"has failed (exit status {status})"
        console.say(f"alpagasus: {job_id} {ended}{reason}")
    return status


def _ways_back(job_id: str, address: str) -> str:
    return (
        f"Follow it: alpagasus jobs follow {job_id} --address {address}; "
        f"stop it: alpagasus jobs stop {job_id} --address {address}"
    )


def _row(job: Any) -> str:
    return f"{job.submission_id}  {job.status.value}  {job.entrypoint}"


def _status(server: JobServer, job_id: str, address: str, console: Console) -> int:
    console.result(_row(server.details(job_id)))
    return 0


def _logs(server: JobServer, job_id: str, address: str, console: Console) -> int:
    sys.stdout.write(server.log(job_id))
    sys.stdout.flush()
    return 0


def _stop(server: JobServer, job_id: str, address: str, console: Console) -> int:
    was_running = server.stop(job_id)
    console.say(f"{job_id}: " + ("is being stopped" if was_running else "had ended before"))
    return 0


def _follow_again(server: JobServer, job_id: str, address: str, console: Console) -> int:
    server.details(job_id)  # of a wrong id it is said at once
    return _follow(server, job_id, address, console)


ACTIONS = {"status": _status, "logs": _logs, "follow": _follow_again, "stop": _stop}
