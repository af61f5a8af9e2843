# Prints what venvd has to know, as JSON. Run with `-I -S`: no site, no environment, no directory of ours. Asked at every
# build, also one with nothing to do: `json`, `platform` and `sysconfig` would take longer to import than python to start.
import _imp
import os
import sys
from importlib._bootstrap_external import MAGIC_NUMBER

machine = os.uname().machine
try:
    libc = os.confstr('CS_GNU_LIBC_VERSION') or ''
except (OSError, ValueError):
    libc = ''
answer = {
    'version': '%d.%d.%d' % sys.version_info[:3],
    'minor': '%d.%d' % sys.version_info[:2],
    'implementation': sys.implementation.name,
    'cache_tag': sys.implementation.cache_tag or '',
    # `.cpython-311-x86_64-linux-gnu.so`
    'soabi': _imp.extension_suffixes()[0][1:-3],
    'magic': MAGIC_NUMBER.hex(),
    'platform': 'linux-' + machine,
    'arch': machine,
    'libc': libc,
    'stdlib': os.path.dirname(os.__file__),
}


def quoted(text):
    return '"' + text.replace('\\', '\\\\').replace('"', '\\"') + '"'


print('{' + ', '.join(quoted(key) + ': ' + quoted(value) for key, value in answer.items()) + '}')
