"""Leaves a process behind when its unit is stopped (KillMode=process), as neutron's agents do."""

import subprocess
import sys
import time

subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000000)"])
time.sleep(1000000)
