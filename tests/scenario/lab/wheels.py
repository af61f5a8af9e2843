"""Makes a wheel and a lock for each kind of venv: `wheels.py KIND…`, below /srv/lab."""

import base64
import hashlib
import os
import sys
import zipfile

LAB = "/srv/lab"


def wheel(kind):
    version = f"1+{kind.replace('-', '.')}"
    info = f"lab-{version}.dist-info"
    programs = ["lab-hook = lab:hook", "lab-check = lab:check"]
    # One venv lacks what its units start.
    programs += [] if kind == "missing" else ["lab-serve = lab:serve"]
    with open(f"{LAB}/lab.py") as module:
        files = {
            "lab.py": module.read(),
            "lab_kind.py": f"KIND = {kind!r}\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: lab\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": "[console_scripts]\n" + "\n".join(programs) + "\n",
        }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text.encode())}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    path = f"{LAB}/wheels/lab-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    with open(f"{LAB}/locks/{kind}.txt", "w") as lock:
        lock.write(f"lab=={version} --hash=sha256:{digest}\n")


for directory in ("wheels", "locks"):
    os.makedirs(f"{LAB}/{directory}", exist_ok=True)
for kind in sys.argv[1:]:
    wheel(kind)
