"""Prints how the app stands: its links, markers, open activations, and what each of these units runs."""

import glob
import json
import os
import subprocess
import sys


def link(kind):
    try:
        return os.path.basename(os.readlink(f"/etc/venvd/{kind}/lab"))
    except OSError:
        return None


def names(kind):
    return os.listdir(f"/etc/venvd/{kind}") if os.path.isdir(f"/etc/venvd/{kind}") else []


def tag(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            words = dict(entry.split(b"=", 1) for entry in file.read().split(b"\0") if b"=" in entry)
    except OSError:
        return None
    return words.get(b"VENVD_TAG", b"").decode() or None


units = {}
wanted = ["Id", "ActiveState", "SubState", "Result", "InvocationID", "MainPID", "NRestarts"]
shown = subprocess.run(["systemctl", "show", "-p", ",".join(wanted), *sys.argv[1:]], capture_output=True, text=True)
for block in shown.stdout.split("\n\n"):
    unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    if unit:
        unit["Tag"] = tag(unit["MainPID"]) if unit.get("MainPID", "0") != "0" else None
        units[unit["Id"]] = unit
transactions = {}
for path in glob.glob("/var/lib/venvd/transactions/[0-9]*.json"):
    with open(path) as file:
        transactions[int(os.path.basename(path).split(".")[0])] = json.load(file)
json.dump(
    {
        "units": units,
        "links": {kind: link(kind) for kind in ("active", "committed", "previous")},
        "pending": names("pending"),
        "litter": [name for kind in ("active", "committed", "previous") for name in names(kind) if name[0] == "."],
        "open": sorted(id for id, transaction in transactions.items() if transaction["ended"] is None),
        "last": max(transactions, default=0),
        "phase": transactions[max(transactions)]["state"]["phase"] if transactions else None,
    },
    sys.stdout,
)
