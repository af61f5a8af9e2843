"""Calls `sudo cinder-rootwrap` without a pause, as cinder's own services do, until it is killed.

One thread calls the bare name, which secure_path leads to a venv; the other the program of the venv it runs from, as a
service does that was started before a flip. A line of each call goes to the file that is named: who called, how, and
how it ended. When it is told to stop, it calls on for a while: a service that is being stopped needs its rights.
"""

import os
import signal
import subprocess
import sys
import threading
import time

ARGUMENTS = ["/etc/cinder/rootwrap.conf", "dd", "status=none", "count=1", "bs=4", "if=/srv/secret"]
GRACE = 0.3

record = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
stop_at = None


def stop(_signal, _frame):
    global stop_at
    stop_at = time.monotonic() + GRACE


def call(program):
    while stop_at is None or time.monotonic() < stop_at:
        done = subprocess.run(
            ["sudo", "-n", program, *ARGUMENTS],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        well = done.returncode == 0 and done.stdout == "root"
        how = "ok" if well else f"refused {done.returncode} {done.stdout!r} {done.stderr!r}"
        os.write(record, f"{os.environ['VENVD_TAG']} {program} {how}\n".encode())


signal.signal(signal.SIGTERM, stop)
programs = ["cinder-rootwrap", os.path.join(sys.prefix, "bin/cinder-rootwrap")]
threads = [threading.Thread(target=call, args=(program,)) for program in programs]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
