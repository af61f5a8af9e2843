"""Writes down what it finds around it, then does what it is told: nothing, `fail`, `hang`, or `hang-once`."""

import getpass
import json
import os
import subprocess
import sys
import time

name, *rest = sys.argv[1:]
then = rest[0] if rest else ""
unit = subprocess.run(["systemctl", "is-active", "demo.service"], capture_output=True, text=True)
found = {
    "name": name,
    "pid": os.getpid(),
    "unit": unit.stdout.strip(),
    "user": getpass.getuser(),
    "prefix": sys.prefix,
    "directory": os.getcwd(),
    "path": os.environ["PATH"].split(":")[0],
    "venv": os.environ["VIRTUAL_ENV"],
    "tag": os.environ["VENVD_TAG"],
    "secret": os.environ.get("DEMO_SECRET"),
    "arguments": rest,
}
print(f"{name} was here", flush=True)
again = os.path.exists("/run/hooks/again")
with open("/run/hooks/log", "a") as log:
    log.write(json.dumps(found) + "\n")
if then == "fail":
    print(f"{name} does not like it", file=sys.stderr)
    sys.exit(3)
if then == "hang" or then == "hang-once" and not again:
    open("/run/hooks/again", "w").close()
    time.sleep(1000000)
