"""Calls as manila-share makes them; it begins as manila/cmd/share.py does."""

import manila.privsep
import manila.privsep.os
from manila import utils
from manila.common import config  # noqa: F401, for its options
from oslo_config import cfg

from calls import call, privsep, tell

cfg.CONF([], project="manila")

call("mkdir", manila.privsep.os.mkdir, "/root/manila")
call("rmdir", manila.privsep.os.rmdir, "/root/manila")
privsep(manila.privsep.sys_admin_pctxt)


def execute(*command, **options):
    return utils.execute(*command, run_as_root=True, **options)


call("allowed", execute, "stat", "-c", "%U", "/root/.bashrc")
call("not in the filters", execute, "id", "-u")
call("another app's", execute, "ls", "/root", root_helper="sudo manila-rootwrap /etc/cinder/rootwrap.conf")
tell()
