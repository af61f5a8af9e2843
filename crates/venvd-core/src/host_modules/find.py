# Says which files of the host's Python belong to some modules, without importing any of them. Run with `-I -S`.
#
#     python -I -S -c THIS DIRECTORIES NAME...
#
# DIRECTORIES are those of site, parted by colons; empty for the interpreter's own. No `.pth` is read. Prints JSON: for each
# name the directory in which it is found, the paths to link, relative to it, and what is wrong; a finding is null where
# there is none.

import ast
import json
import os
import site
import sys
from importlib.machinery import EXTENSION_SUFFIXES


def extension(directory, stem):
    """Returns the extension module, or None, and one for another Python where there is only that."""
    for suffix in EXTENSION_SUFFIXES:
        if os.path.isfile(f"{directory}/{stem}{suffix}"):
            return stem + suffix, None
    try:
        names = os.listdir(directory)
    except OSError:
        names = []
    others = sorted(name for name in names if name.startswith(stem + ".") and name.endswith(".so"))
    return None, others[0] if others else None


def module(directory, path):
    """Returns the file or directory of a module, relative to the directory, in the order in which Python looks."""
    if os.path.isfile(f"{directory}/{path}/__init__.py"):
        return path, None
    found, other = extension(directory, path) if "/" not in path else below(directory, path)
    if found:
        return found, None
    if os.path.isfile(f"{directory}/{path}.py"):
        return path + ".py", None
    if os.path.isdir(f"{directory}/{path}"):
        return path, None
    return None, other


def below(directory, path):
    parent, _, stem = path.rpartition("/")
    return [f"{parent}/{name}" if name else None for name in extension(f"{directory}/{parent}", stem)]


def sources(path):
    if os.path.isfile(path):
        return [path] if path.endswith(".py") else []
    found = []
    for above, directories, names in os.walk(path):
        directories.sort()
        found += [f"{above}/{name}" for name in sorted(names) if name.endswith(".py")]
    return found


def imported(path):
    """Returns the first parts of what a source imports, wherever in it."""
    with open(path, "rb") as file:
        try:
            tree = ast.parse(file.read())
        except (SyntaxError, ValueError):
            return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update([node.module.split(".")[0]] if node.module and not node.level else [])
            # A generated wrapper (SWIG) says `from . import _name` and means its neighbour when it is no package.
            names.update(alias.name for alias in node.names if not node.module)
    return names


def foreign(path):
    """Returns an extension module below a package of which there is none for this Python."""
    for above, _, names in os.walk(path):
        for stem in sorted({name.split(".")[0] for name in names if name.endswith(".so")}):
            found, other = extension(above, stem)
            if other and not found:
                return f"{above}/{other}"
    return None


def find(directories, name):
    path = name.replace(".", "/")
    unfit = None
    for directory in directories:
        found, other = module(directory, path)
        if not found:
            unfit = unfit or (other and f"{directory}/{other}")
            continue
        links = [found]
        unfit = foreign(f"{directory}/{found}")
        for source in sources(f"{directory}/{found}"):
            for stem in sorted(imported(source)):
                neighbour, other = extension(directory, stem)
                if neighbour and neighbour not in links:
                    links.append(neighbour)
                if other and not neighbour and not os.path.exists(f"{directory}/{stem}.py"):
                    unfit = unfit or f"{directory}/{other}"
        return {"directory": directory, "links": sorted(links), "unfit": unfit}
    return {"directory": None, "links": [], "unfit": unfit}


directories = sys.argv[1].split(":") if sys.argv[1] else site.getsitepackages()
print(json.dumps({"directories": directories, "modules": [find(directories, name) for name in sys.argv[2:]]}))
