# keystone and neutron parse the command line of the process that loads them, and gunicorn's is none of theirs.
import sys

timeout = 120
sys.argv = sys.argv[:1]
