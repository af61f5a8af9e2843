"""Fetches the wheels of locks for a Python and a glibc that need not be this host's.

Arguments: the Python's minor version, the newest glibc, a directory of archives that are known, the directory to
fetch into, the names (with commas) of what exists as source only, and the locks. Of those names the source archive is
fetched. pip can pick wheels for another Python, but it judges markers by the one that it runs on; so the markers are
judged here, and pip gets plain requirements, all with hashes. What is known is not asked for again.
"""

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from packaging.requirements import Requirement
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

# How many pips run at once.
SHARE = 4


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


def parse(file):
    """Gives the name, the version and the tags of a wheel, or no tags for a source archive."""
    if file.endswith(".whl"):
        name, version, _, tags = parse_wheel_filename(file)
        return name, version, tags
    return *parse_sdist_filename(file), None


def known_hashes(directory, python, glibc):
    """Gives the hashes of what is in a directory and runs there, by (name, version)."""
    version, machine = tuple(int(part) for part in python.split(".")), platforms(glibc)
    fitting = {*cpython_tags(version, platforms=machine), *compatible_tags(version, platforms=machine)}
    hashes = {}
    for file in os.listdir(directory):
        try:
            name, release, tags = parse(file)
        except (InvalidWheelFilename, InvalidSdistFilename):
            continue
        if tags is None or not fitting.isdisjoint(tags):
            with open(os.path.join(directory, file), "rb") as archive:
                digest = hashlib.file_digest(archive, "sha256").hexdigest()
            hashes.setdefault((name, str(release)), set()).add(f"--hash=sha256:{digest}")
    return hashes


def is_known(line, hashes):
    spec, *pins = line.split()
    name, version = spec.split("==")
    return not hashes.get((canonicalize_name(name), version), set()).isdisjoint(pins)


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
    hashes = known_hashes(known, python, glibc)
    # One version of a name at a time: pip takes no two in one call, and several locks share most.
    rounds = []
    for lock in locks:
        for name, line in requirements(lock, environment):
            if is_known(line, hashes) or any(chosen.get(name) == line for chosen in rounds):
                continue
            free = next((chosen for chosen in rounds if name not in chosen), None)
            if free is None:
                free = {}
                rounds.append(free)
            free[name] = line
    parts = [lines[start::SHARE] for lines in map(list, map(dict.values, rounds)) for start in range(SHARE)]
    # pip waits for the index most of the time.
    with ThreadPoolExecutor(SHARE) as pool:
        for done in [pool.submit(download, python, glibc, known, target, sdists, part) for part in parts if part]:
            done.result()
    for name in os.listdir(target):
        os.chmod(os.path.join(target, name), 0o644)


main(*sys.argv[1:])
