"""Calls as neutron's agents make them; it begins as neutron/agent/dhcp_agent.py does."""

import neutron.privileged
from neutron.agent import dhcp_agent
from neutron.agent.linux import utils
from neutron.common import config as common_config
from neutron.conf.agent import common as config
from neutron.privileged.agent.linux import ip_lib
from neutron.privileged.agent.linux import utils as privileged_utils
from oslo_concurrency import processutils
from oslo_config import cfg

from calls import call, daemon, daemons, privsep, tell

dhcp_agent.register_options(cfg.CONF)
common_config.init([])
config.setup_logging()
config.setup_privsep()

call("path_exists", privileged_utils.path_exists, "/root/.bashrc")
call("get_link_id", ip_lib.privileged_get_link_id, "lo", None)
privsep(neutron.privileged.default)
call("get_link_attributes", lambda: ip_lib.get_link_attributes("lo", None)["mtu"])
privsep(neutron.privileged.link_cmd)


def execute(*command):
    return utils.execute(list(command), run_as_root=True)


# Through the daemon.
call("netns add", execute, "ip", "netns", "add", "calls")
call("list_netns", ip_lib.list_netns)
privsep(neutron.privileged.namespace_cmd)
call("netns exec", execute, "ip", "netns", "exec", "calls", "sleep", "0")
call("netns delete", execute, "ip", "netns", "delete", "calls")
call("of the venv", lambda: execute("neutron-keepalived-state-change", "--help").split()[:2])
call("not in the filters", execute, "id", "-u")
daemons["rootwrap"] = daemon("/etc/neutron/rootwrap.conf")
foreign = ("sudo", "neutron-rootwrap-daemon", "/etc/cinder/rootwrap.conf")
call("another app's daemon", processutils.execute, *foreign, timeout=60)


def execute_once(*command, helper=config.get_root_helper(cfg.CONF)):
    return processutils.execute(*command, run_as_root=True, root_helper=helper)


call("allowed", lambda: execute_once("ip", "-o", "link", "show", "lo")[0].split()[1])
call("not in the filters, without the daemon", execute_once, "id", "-u")
call("another app's", execute_once, "ls", "/root", helper="sudo neutron-rootwrap /etc/cinder/rootwrap.conf")
call("without rootwrap", execute_once, "privsep-helper", "--help", helper="sudo")
tell()
