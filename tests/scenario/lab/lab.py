"""A service that says what it does in a log, and misbehaves in the way that its venv is named for.

Each line of the log: what, unit, tag of the venv that runs, tag of the venv in force, monotonic nanoseconds, boot, pid.
"""

import os
import signal
import socket
import sys
import time

from lab_kind import KIND

LOG = "/var/lib/lab/log"
BROKEN = "/var/lib/lab/broken"
TAG = os.path.basename(sys.prefix)


def note(what, unit):
    try:
        in_force = os.path.basename(os.readlink("/etc/venvd/committed/lab"))
    except OSError:
        in_force = "-"
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    line = f"{what} {unit} {TAG} {in_force} {time.monotonic_ns()} {boot} {os.getpid()}\n"
    log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(log, line.encode())
    os.close(log)


def ready():
    path = os.environ.get("NOTIFY_SOCKET")
    if path is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + path[1:] if path[0] == "@" else path)
        notify.send(b"READY=1")


def serve():
    unit = sys.argv[1]

    def stop(*_):
        note("stop", unit)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    note("start", unit)
    # Only the first one of the chain has it.
    kind = KIND if unit == "lab-1" else "good"
    if kind == "exits" or os.path.exists(f"{BROKEN}/{TAG}"):
        sys.exit("it does not like its life")
    if kind != "hangs":
        ready()
    if kind == "exits-later":
        time.sleep(3)
        sys.exit("it had enough")
    if kind == "crashes":
        time.sleep(0.05)
        os.abort()
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    # More than its unit may have, but no more: where nothing limits it, the host must not suffer.
    held = b"x" * (300 << 20) if kind == "eats" else None
    while held is None or held:
        signal.pause()


def hook():
    """Fails at the stage that the venv is named for; `knock` and `wait` give sockets and timers a reason to start something,
    and `stopped` is what an `ExecStop=` says."""
    stage = sys.argv[1]
    if stage == "stopped":
        note("stopped", "lab-1")
    if stage == "knock":
        with socket.socket(socket.AF_UNIX) as knock:
            knock.connect("/run/lab-1.sock")
    if stage == "wait":
        time.sleep(2.5)
    if KIND == f"fails-{stage}":
        sys.exit(f"{stage} went wrong")


def check():
    if KIND == "unhealthy":
        sys.exit("it is not well")
