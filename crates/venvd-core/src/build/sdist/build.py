"""Unpacks a source distribution and has pip build its wheel: `build.py ARCHIVE DIRECTORY PIP…`.

pip could unpack it by itself, but would do so in a directory with a new name each time, which gets into what compilers
write; and which tools it takes for a project that names none depends on pip's version (`wheel` was one of them once).
"""

import os
import shutil
import sys
import tarfile
import zipfile

# PEP 517: what a project without a [build-system] is built with.
LEGACY = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta:__legacy__"\n'


def unpack(archive, directory):
    """Returns the one directory that a source distribution has (PEP 625)."""
    os.mkdir(directory)
    if archive.endswith('.zip'):
        with zipfile.ZipFile(archive) as source:
            source.extractall(directory)
    else:
        with tarfile.open(archive) as source:
            if hasattr(tarfile, 'data_filter'):
                source.extraction_filter = tarfile.data_filter
            source.extractall(directory)
    inner = [name for name in os.listdir(directory) if os.path.isdir(os.path.join(directory, name))]
    if len(inner) != 1:
        sys.exit(f'ERROR: {archive} does not hold one directory, as a source distribution does, but {inner}')
    # By a name that has no version in it: again, for what compilers write.
    os.rename(os.path.join(directory, inner[0]), os.path.join(directory, 'source'))
    return os.path.join(directory, 'source')


def name_build_system(source):
    project = os.path.join(source, 'pyproject.toml')
    text = ''
    if os.path.exists(project):
        with open(project, encoding='utf-8') as file:
            text = file.read()
    if not any(line.strip().startswith(('[build-system]', 'build-system')) for line in text.splitlines()):
        with open(project, 'w', encoding='utf-8') as file:
            file.write(f'{text}\n{LEGACY}')


def main():
    archive, directory, *pip = sys.argv[1:]
    shutil.rmtree(directory, ignore_errors=True)
    source = unpack(archive, directory)
    name_build_system(source)
    os.execv(pip[0], [*pip, source])


if __name__ == '__main__':
    main()
