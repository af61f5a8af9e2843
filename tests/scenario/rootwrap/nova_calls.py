"""Calls as nova-compute makes them; it begins as nova/cmd/compute.py does."""

import shlex

import nova.privsep
import nova.privsep.path
import os_brick
import os_brick.privileged
import os_brick.privileged.rootwrap
from nova import config, utils
from oslo_concurrency import processutils
from oslo_privsep import priv_context

from calls import call, privsep, tell

config.parse_args(["nova-compute"])
helper = utils.get_root_helper()
priv_context.init(root_helper=shlex.split(helper))
os_brick.setup(config.CONF)

call("makedirs", nova.privsep.path.makedirs, "/root/nova")
call("rmdir", nova.privsep.path.rmdir, "/root/nova")
privsep(nova.privsep.sys_admin_pctxt)
call("execute_root", os_brick.privileged.rootwrap.execute_root, "id", "-u")
privsep(os_brick.privileged.default)


def execute(*command, helper=helper):
    return processutils.execute(*command, run_as_root=True, root_helper=helper)


call("allowed", lambda: execute("privsep-helper", "--help")[0].split()[:2])
call("not in the filters", execute, "id", "-u")
call("another app's", execute, "ls", "/root", helper="sudo nova-rootwrap /etc/cinder/rootwrap.conf")
call("without rootwrap", execute, "privsep-helper", "--help", helper="sudo")
tell()
