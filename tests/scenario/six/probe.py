"""Starts every program of the venvs that are named, and says which environment each really runs in.

Prints a line of JSON per venv: how many programs of Python there are, those of them that run elsewhere, and the names
of those that are no Python's. Run as a user who can't write to them.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distributions
from pathlib import Path

PROBE = Path(__file__).parent / "probe"


def answer(program):
    # What hangs instead of answering runs something else than the probe: that is a failure too.
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROBE)}
    run = subprocess.run([program], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return run.stdout.strip() or run.stderr.strip()[-200:] or f"exit status {run.returncode}"


def is_python(program):
    with open(program, "rb") as file:
        start = file.read(4096)
    # The second form begins with the shell, which replaces itself by the Python on the line after.
    return program.is_symlink() or b"python" in start.split(b"\n")[0] or b"'''exec'" in start


def declared(site):
    """Every console script of every distribution, whoever wrote it."""
    groups = ("console_scripts", "gui_scripts")
    return {entry.name for dist in distributions(path=[site]) for entry in dist.entry_points if entry.group in groups}


def probe(venv):
    (site,) = Path(venv).glob("lib/python3.*/site-packages")
    programs = sorted(path for path in Path(venv, "bin").iterdir() if os.access(path, os.X_OK) and path.is_file())
    python = [path for path in programs if is_python(path)]
    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip((path.name for path in python), pool.map(answer, python)))
    return {
        "venv": venv,
        "programs": len(python),
        "elsewhere": {name: said for name, said in answers.items() if said != venv},
        "missing": sorted(declared(str(site)) - answers.keys()),
        "other": sorted(path.name for path in programs if path not in python),
    }


for name in sys.argv[1:]:
    print(json.dumps(probe(name)))
