"""Calls as cinder-volume makes them; it begins as cinder/cmd/volume.py does."""

import shlex

import cinder.privsep
import cinder.privsep.path
import os_brick
import os_brick.privileged
import os_brick.privileged.rootwrap
from cinder import utils
from cinder.common import config  # noqa: F401, for its options
from oslo_config import cfg
from oslo_privsep import priv_context

from calls import call, privsep, tell

cfg.CONF([], project="cinder")
priv_context.init(root_helper=shlex.split(utils.get_root_helper()))
os_brick.setup(cfg.CONF)

call("exists", cinder.privsep.path.exists, "/root/.bashrc")
privsep(cinder.privsep.sys_admin_pctxt)
call("execute_root", os_brick.privileged.rootwrap.execute_root, "id", "-u")
privsep(os_brick.privileged.default)


def execute(*command, **options):
    return utils.execute(*command, run_as_root=True, **options)


call("allowed", execute, "stat", "-c", "%U", "/root/.bashrc")
call("not in the filters", execute, "id", "-u")
call("another app's", execute, "ls", "/root", root_helper="sudo cinder-rootwrap /etc/manila/rootwrap.conf")
call("without rootwrap", execute, "privsep-helper", "--help", root_helper="sudo")
tell()
