"""Asks for a tag, and stops venvd in one state of the activation that follows: `cut.py TAG PHASE how by`, by a `flip` of
the link or by `venvctl activate --revoke`.

The phase is what the activation's file says, as JSON. `kill` kills venvd there; `stop` leaves it stopped, for what is
done next from outside; `disturb` lets systemd read its units anew and the first unit crash, then lets venvd go on;
anything else is a command that is run while venvd goes on. Exits with 0 if it was caught there, with 3 if the activation
had passed it already.
"""

import json
import os
import signal
import subprocess
import sys
import time

TRANSACTIONS = "/var/lib/venvd/transactions"
tag, phase, how, by = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]


def numbers():
    return [int(name.split(".")[0]) for name in os.listdir(TRANSACTIONS) if name[0].isdigit()]


def read(path):
    try:
        with open(path) as file:
            return json.load(file)["state"]["phase"]
    except FileNotFoundError:
        return None


def is_over(found):
    return isinstance(found, dict) and "ended" in found


def main_pid(unit):
    shown = subprocess.run(["systemctl", "show", "-P", "MainPID", unit], capture_output=True, text=True, check=True)
    return int(shown.stdout)


def disturb():
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    crashed = main_pid("lab-1.service")
    if not crashed:
        return
    os.kill(crashed, signal.SIGKILL)
    # Where it was about to be stopped, it does not come back. What needs it is restarted with it.
    until = time.monotonic() + 1
    while time.monotonic() < until:
        time.sleep(0.01)
        is_up = subprocess.run(["systemctl", "is-active", "-q", "lab-2.service"]).returncode == 0
        if is_up and main_pid("lab-1.service") not in (0, crashed):
            return


pid = main_pid("venvd.service")
number = max(numbers(), default=0) + 1
path = f"{TRANSACTIONS}/{number}.json"
if by == "revoke":
    # Its answer is nobody's business here.
    subprocess.Popen(["venvctl", "activate", "--revoke", f"lab:{tag}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
# Whoever waits for a state that lasts a millisecond must not wait for a processor.
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
if by == "flip":
    link = "/etc/venvd/active/.lab"
    os.symlink(f"/var/lib/venvd/venvs/lab/{tag}", link)
    os.rename(link, "/etc/venvd/active/lab")
deadline = time.monotonic() + 30
found = None
while found != phase and not is_over(found) and time.monotonic() < deadline:
    # The real-time classes leave nothing to others, and each state lasts as long as its file takes to be written.
    time.sleep(0.00005)
    found = read(path)
os.kill(pid, signal.SIGSTOP)
# It may have gone on until it was stopped.
time.sleep(0.001)
found = read(path)
if found != phase:
    os.kill(pid, signal.SIGCONT)
    print(f"{number} {json.dumps(found)}")
    sys.exit(3)
if how == "kill":
    os.kill(pid, signal.SIGKILL)
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
if how == "disturb":
    disturb()
print(f"{number} {time.monotonic_ns()}")
if how not in ("kill", "stop"):
    os.kill(pid, signal.SIGCONT)
if how not in ("kill", "stop", "disturb"):
    subprocess.run(how, shell=True, check=True)
