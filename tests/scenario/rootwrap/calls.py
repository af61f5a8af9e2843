"""Gathers what comes of a service's calls for root, and who answers them; each service's file says which it makes."""

import json
from pathlib import Path

from oslo_concurrency.processutils import ProcessExecutionError
from oslo_privsep import comm

calls = {}
daemons = {}


def call(name, function, *arguments, **options):
    try:
        calls[name] = {"returned": function(*arguments, **options)}
    except ProcessExecutionError as error:
        calls[name] = {"status": error.exit_code, "said": error.stderr}
    except Exception as error:
        calls[name] = {"refused": repr(error)}


def processes_of_root(word):
    """Those with a word on their command lines, and what the kernel has of them."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            argv = (directory / "cmdline").read_text().split("\0")
            lines = (directory / "status").read_text().splitlines()
        except OSError:
            continue  # It ended meanwhile.
        status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
        if word in argv and status["Uid"].split() == ["0"] * 4 and argv[0] != "sudo":
            yield argv, status


def daemon(word):
    ((argv, status),) = processes_of_root(word)
    return {"argv": argv[:2], "effective": status["CapEff"], "permitted": status["CapPrm"]}


def privsep(context):
    """Describes the daemon of a context, once a call has started it."""
    if context.channel is None:
        return
    # Not a function of the context's, so what comes back is the daemon's own traceback, with the path of its code.
    *_, traceback = context.channel.send_recv((comm.Message.CALL.value, "os.getpid", (), {}))
    daemons[context.pypath] = {
        **daemon(context.pypath),
        "wanted": f"{sum(1 << capability for capability in context.conf.capabilities):016x}",
        "code": [line.split('"')[1] for line in traceback.splitlines() if line.startswith("  File")][0],
    }


def tell():
    print(json.dumps({"calls": calls, "daemons": daemons}))
