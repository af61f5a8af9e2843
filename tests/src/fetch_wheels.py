"""Fetches the wheels of locks for a Python and a glibc that need not be this host's.

Arguments: the Python's minor version, the newest glibc, a directory of wheels that are known, the directory to fetch
into, the names (with commas) of what exists as source only, and the locks. Of those the source archive is fetched. pip can pick wheels for another Python, but it judges markers by the one that it runs on; so the
markers are judged here, and pip gets plain requirements, all with hashes.
"""

import os
import platform
import subprocess
import sys
import tempfile

from packaging.requirements import Requirement


def requirements(lock, environment):
    """Gives (name, line without marker) for what of a lock applies in the environment."""
    with open(lock, encoding="utf-8") as file:
        text = file.read().replace("\\\n", " ")
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        spec, *hashes = line.split("--hash=")
        requirement = Requirement(spec.strip())
        if requirement.marker is None or requirement.marker.evaluate(environment):
            pins = " ".join(f"--hash={digest.strip()}" for digest in hashes)
            yield requirement.name, f"{requirement.name}{requirement.specifier} {pins}"


def platforms(glibc):
    """All platform tags of Linux wheels that such a glibc runs (PEP 600 and its forerunners)."""
    major, minor = (int(part) for part in glibc.split("."))
    machine = platform.machine()
    tags = [f"manylinux_{major}_{older}_{machine}" for older in range(minor, 4, -1)]
    return tags + [f"{old}_{machine}" for old in ("manylinux2014", "manylinux2010", "manylinux1", "linux")]


def download(python, glibc, known, target, sdists, lines):
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "--only-binary=:all:", f"--no-binary={sdists}"]
        command += ["--find-links", known, "--dest", target]
        command += ["--python-version", python, "--implementation", "cp"]
        for abi in ("cp" + python.replace(".", ""), "abi3", "none"):
            command += ["--abi", abi]
        for tag in platforms(glibc):
            command += ["--platform", tag]
        subprocess.run([*command, "--requirement", file.name], check=True)


def main(python, glibc, known, target, sdists, *locks):
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    # One version of a name at a time: pip takes no two in one call, and several locks share most.
    rounds = []
    for lock in locks:
        for name, line in requirements(lock, environment):
            if any(chosen.get(name) == line for chosen in rounds):
                continue
            free = next((chosen for chosen in rounds if name not in chosen), None)
            if free is None:
                free = {}
                rounds.append(free)
            free[name] = line
    for chosen in rounds:
        download(python, glibc, known, target, sdists, chosen.values())
    for name in os.listdir(target):
        os.chmod(os.path.join(target, name), 0o644)


main(*sys.argv[1:])
