"""Runs each row of a table as its user, and says what came of it.

Standard input: {"sudo": PATH, "rows": [{"user", "env", "cwd", "argv"}]}. Standard output: [{"status", "out", "err"}].
"""
import json
import pwd
import subprocess
import sys


def run(sudo, row):
    user = pwd.getpwnam(row["user"])
    env = {"PATH": "/tmp/own:/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LC_ALL": "C", **row["env"]}
    done = subprocess.run(
        [sudo, "-n", *row["argv"]],
        env=env,
        cwd=row["cwd"],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
    )
    text = {"out": done.stdout.decode(errors="replace"), "err": done.stderr.decode(errors="replace")}
    return {"status": done.returncode, **text}


table = json.load(sys.stdin)
json.dump([run(table["sudo"], row) for row in table["rows"]], sys.stdout)
