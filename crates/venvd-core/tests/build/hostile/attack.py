# What hostile code tries wherever it gets to run; MARK is a path that root alone can write to.
import os
import sys
import time


def become_root():
    for call, ids in ((os.setuid, (0,)), (os.setresuid, (0, 0, 0)), (os.setgid, (0,))):
        try:
            call(*ids)
        except OSError:
            pass
    try:
        with open(MARK, "a") as file:
            file.write(f"{sys.argv[:1]} as {os.getuid()}\n")
        os.chmod(MARK, 0o4755)
    except OSError:
        pass


def survive(path):
    """Leaves a process in a session of its own, with the file open: it goes on writing to it, once its parent is gone."""
    main = os.getpid()
    beat = "/dev/shm/venvd/beat"
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        file = os.open(path, os.O_RDWR)
        null = os.open("/dev/null", os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        with open(beat, "w"):
            pass
        while True:
            become_root()
            try:
                os.kill(main, 0)
            except OSError:
                # No matter to Python, nor to a zip: so whoever copies it before the end is content with it.
                os.pwrite(file, b"\n# HACKED", os.fstat(file).st_size)
            time.sleep(0.002)
    while not os.path.exists(beat):
        time.sleep(0.002)


become_root()
