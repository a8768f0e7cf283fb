"""Commands as a user types them, without a start of Python for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRESS = ("corpus: ", "grade: ")
"""What stages say of work that is done before something is found to be wrong."""

# Loads the package once and forks for every command: main() takes the terminal of its process.
SHELL = """
import importlib, json, os, signal, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
from alpagasus_ray.cli import main

def refuse_to_start(*args, **kwargs):
    open("started.txt", "w").close()
    os._exit(97)

if "ray" in sys.modules:
    sys.modules["ray"].init = refuse_to_start
for line in sys.stdin:
    command = json.loads(line)
    child = os.fork()
    if not child:
        signal.alarm(300)
        os.chdir(command["folder"])
        os.environ.update(command["env"])
        for number, name in ((0, os.devnull), (1, "stdout.txt"), (2, "stderr.txt")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        try:
            code = main(command["arguments"])
        except SystemExit as stop:
            code = stop.code
        sys.stdout.flush()
        sys.stderr.flush()
        loaded = {"ray", "torch", "transformers", "vllm", "openai"} & set(sys.modules)
        with open("loaded.json", "w") as file:
            json.dump(sorted(loaded), file)
        os._exit(code or 0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass
class Done:
    """What became of a command."""

    code: int
    out: str
    error: str
    loaded: list[str]
    """The heavy libraries that its process had loaded at the end."""


class Shell:
    """Runs commands of the package in a folder of their own."""

    def __init__(self, *modules: str) -> None:
        env = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", SHELL, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**env, "COLUMNS": "100"},
        )

    def run(self, folder: Path, *arguments: str, **env: str) -> Done:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        command = {"folder": str(folder), "arguments": arguments, "env": env}
        print(json.dumps(command), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        texts = [(folder / name).read_text() for name in ("stdout.txt", "stderr.txt")]
        loaded = folder / "loaded.json"
        return Done(code, *texts, json.loads(loaded.read_text()) if loaded.exists() else [])

    def close(self) -> None:
        self._process.communicate(timeout=300)


def complaint(folder: Path, done: Done) -> str:
    """Return the one line that a user is told, without the program's name."""
    assert not (folder / "started.txt").exists(), "Ray was to be started"
    assert done.code == 2, done.error
    assert done.out == ""
    lines = [line for line in done.error.splitlines() if not line.startswith(PROGRESS)]
    assert len(lines) == 1, done.error
    assert lines[0].startswith("alpagasus: ")
    return lines[0].removeprefix("alpagasus: ")
