# Compiles the sources that are named on standard input, with nothing but the standard library.
#
#     python -s -S -c THIS FROM TO JOBS
#
# Each line names a batch: paths below FROM, parted by tabs. Their bytecode is written below TO. A line of output is a
# source that is no valid Python. See compile.rs for why it is done so.

import sys

# What -I would do; with it, PYTHONHASHSEED would have no effect.
sys.path = [entry for entry in sys.path if entry]

import gc
import os
from importlib._bootstrap_external import _code_to_hash_pyc
from importlib.util import source_hash

# Where bytecode says that its source lies, whatever the venv.
CANONICAL = "/venv"


def bytecode(path, source):
    # As py_compile.compile(dfile=..., invalidation_mode=UNCHECKED_HASH) does.
    # The name is held until the end, as there: marshal looks at the count of references.
    name = f"{CANONICAL}/{path}"
    code = compile(source, name, "exec", dont_inherit=True, optimize=-1)
    return _code_to_hash_pyc(code, source_hash(source), False)


def write(path, content):
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    target = os.open(path, flags, 0o644)
    try:
        content = memoryview(content)
        while content:
            content = content[os.write(target, content):]
    finally:
        os.close(target)


def compile_batch(paths, origin, target):
    for path in paths:
        with open(f"{origin}/{path}", "rb", 0) as file:
            source = file.read()
        try:
            content = bytecode(path, source)
        except Exception as error:
            text = " ".join(f"{path}: {type(error).__name__}: {error}".split())
            # One write of less than PIPE_BUF is not mixed with those of others, pipe(7).
            os.write(1, text.encode("utf-8", "replace")[:4000] + b"\n")
            continue
        directory, _, name = path.rpartition("/")
        cache = f"{target}/{directory}/__pycache__"
        os.makedirs(cache, 0o755, exist_ok=True)
        write(f"{cache}/{name[:-3]}.{sys.implementation.cache_tag}.pyc", content)


def start(paths, origin, target):
    if os.fork():
        return
    status = 1
    try:
        compile_batch(paths, origin, target)
        status = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(status)


def reap():
    status = os.waitstatus_to_exitcode(os.wait()[1])
    if status:
        # This is the first process of its PID namespace: all others end with it.
        sys.exit(f"a compiler ended with {status}")


def main():
    origin, target, jobs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.umask(0o022)
    gc.disable()
    running = 0
    for line in sys.stdin.buffer:
        if running == jobs:
            reap()
            running -= 1
        start(line.decode().rstrip("\n").split("\t"), origin, target)
        running += 1
    for _ in range(running):
        reap()


main()
