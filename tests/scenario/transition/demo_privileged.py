"""A context of oslo.privsep, as services have them; the host's module that the venv gets."""

import os
import sys

from oslo_privsep import priv_context

context = priv_context.PrivContext(__name__, pypath=f"{__name__}.context", capabilities=[])


@context.entrypoint
def who():
    return os.getuid(), sys.prefix
