"""Starts rootwrap's daemon, as oslo.rootwrap's client does, and leaves it behind when the unit is stopped."""

import subprocess
import time

daemon = subprocess.Popen(
    ["sudo", "-n", "oslo-rootwrap-daemon", "/etc/demo/rootwrap.conf"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    start_new_session=True,
)
# It says where it listens when it is ready.
daemon.stdout.readline()
time.sleep(1000000)
