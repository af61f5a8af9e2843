"""Measures activations of the app, in the machine. Prints milliseconds, or what `idle` finds.

`activate TAG UNIT…`: from the request to the moment in which the last unit was up; `by-hand UNIT…`: the same without venvd.
`flips TAG TAG COUNT`: from a flip to the first thing that venvd writes about it, each time.
`idle SECONDS`: how often any thread of venvd ran, how often its watchdog wants to be fed, and its resident kilobytes.
"""

import ctypes
import glob
import json
import os
import subprocess
import sys
import time

TRANSACTIONS = "/var/lib/venvd/transactions"
IN_CREATE = 0x100
libc = ctypes.CDLL(None, use_errno=True)


def last_up(units):
    """Since when all units are up, in seconds of the monotonic clock."""
    asked = ["systemctl", "show", "-p", "ActiveState,ActiveEnterTimestampMonotonic", *units]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n")]
    assert len(blocks) == len(units) and all(block["ActiveState"] == "active" for block in blocks), shown
    return max(int(block["ActiveEnterTimestampMonotonic"]) for block in blocks) / 1e6


def restart(commands, units):
    begin = time.monotonic()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    up = last_up(units)
    assert up > begin, "nothing was restarted"
    print((up - begin) * 1e3)


def is_open():
    last = max(glob.glob(f"{TRANSACTIONS}/[0-9]*.json"), key=lambda path: int(os.path.basename(path)[:-5]))
    with open(last) as file:
        return json.load(file)["ended"] is None


def flips(tags, count):
    for number in range(count):
        # What comes close behind another event is taken together with it.
        while is_open():
            time.sleep(0.02)
        time.sleep(0.3)
        notify = libc.inotify_init1(os.O_CLOEXEC)
        assert libc.inotify_add_watch(notify, TRANSACTIONS.encode(), IN_CREATE) >= 0, ctypes.get_errno()
        os.symlink(f"/var/lib/venvd/venvs/lab/{tags[number % 2]}", "/etc/venvd/active/.lab")
        begin = time.monotonic()
        os.rename("/etc/venvd/active/.lab", "/etc/venvd/active/lab")
        os.read(notify, 4096)
        print((time.monotonic() - begin) * 1e3, flush=True)
        os.close(notify)
        while not is_open():
            time.sleep(0.001)


def show(name):
    return subprocess.run(["systemctl", "show", "-P", name, "venvd.service"], capture_output=True, text=True).stdout.strip()


def switches(pid):
    """How often each of its threads gave a processor up, which it does once each time that it ran."""
    counts = {}
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path) as file:
            counts[path] = sum(int(line.split()[1]) for line in file if "voluntary_ctxt_switches" in line)
    return counts


def idle(seconds):
    pid = int(show("MainPID"))
    # What the last activation left to do is not idling, nor are threads that wait a while for more to do, and end.
    time.sleep(15)
    before = switches(pid)
    time.sleep(seconds)
    ran = sum(count - before.get(path, 0) for path, count in switches(pid).items())
    with open(f"/proc/{pid}/status") as file:
        resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
    with open(f"/proc/{pid}/environ") as file:
        watchdog = [entry.split("=")[1] for entry in file.read().split("\0") if entry.startswith("WATCHDOG_USEC=")]
    print(ran, seconds * 2e6 / int(watchdog[0]) if watchdog else 0, resident)


verb, *words = sys.argv[1:]
if verb == "activate":
    restart([["venvctl", "activate", f"lab:{words[0]}"]], words[1:])
elif verb == "by-hand":
    restart([["systemctl", "daemon-reload"], ["systemctl", "restart", *words]], words)
elif verb == "flips":
    flips(words[:2], int(words[2]))
elif verb == "idle":
    idle(int(words[0]))
else:
    sys.exit(__doc__)
