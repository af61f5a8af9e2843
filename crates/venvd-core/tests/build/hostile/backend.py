# A build backend that is hostile; LEAVE says what it leaves: a "survivor", or besides its wheel a "link", "hard link" or "setuid" file.
import zipfile


def get_requires_for_build_wheel(config_settings=None):
    return []


def build_wheel(directory, config_settings=None, metadata_directory=None):
    become_root()
    name, info = "source-1.0-py3-none-any.whl", "source-1.0.dist-info"
    made = os.path.join(directory, name)
    metadata = "Metadata-Version: 2.1\nName: source\nVersion: 1.0\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = f"source.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
    with zipfile.ZipFile(made, "w") as wheel:
        wheel.writestr("source.py", f"USER = {os.getuid()}\n")
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", tags)
        wheel.writestr(f"{info}/RECORD", record)
    # Beside the one that pip copies there.
    final = "/dev/shm/venvd/built"
    os.makedirs(final, exist_ok=True)
    planted = f"{final}/source-1.0-1-py3-none-any.whl"
    if LEAVE == "survivor":
        survive(made)
    elif LEAVE == "hard link":
        os.link(made, planted)
        os.link(made, "/dev/shm/venvd/other-name")
    elif LEAVE == "link":
        os.symlink("/etc/shadow", planted)
    elif LEAVE == "setuid":
        with open(planted, "w"):
            pass
        os.chmod(planted, 0o4755)
    return name
