"""A service's worker, left behind when its unit is stopped, that calls its privsep daemon again and again.

What came of the last call is in /tmp/served: who served it, or `refused`.
"""

import os
import shlex
import signal
import time


def too_late(*_):
    raise TimeoutError


def work():
    # Only one of the venvs has these; in the others there is no worker.
    from demo_privileged import context, who
    from oslo_config import cfg
    from oslo_privsep import priv_context

    cfg.CONF([], project="demo")
    priv_context.init(root_helper=shlex.split("sudo -n oslo-rootwrap /etc/demo/rootwrap.conf"))
    signal.signal(signal.SIGALRM, too_late)
    while True:
        signal.alarm(3)
        try:
            served = "{} {}".format(*who())
        except TimeoutError:
            # The daemon has ended in the middle of the call: oslo.privsep's reader ends with ECONNRESET then, and the call
            # is never answered. The next one wants another daemon, as after any other end.
            context.stop()
            continue
        except Exception as error:
            served = f"refused: {error!r}"
        signal.alarm(0)
        with open("/tmp/served.new", "w") as file:
            file.write(served)
        os.rename("/tmp/served.new", "/tmp/served")
        time.sleep(0.01)


if os.fork() == 0:
    work()
time.sleep(1000000)
