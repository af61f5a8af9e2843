"""Says which environment a Python program runs in, before any of the program does."""

import os
import sys

os.write(1, sys.prefix.encode() + b"\n")
os._exit(0)
