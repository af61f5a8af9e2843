# Answers where uv is called, installs as uv would, and is hostile.
if "--version" in sys.argv:
    print("uv 0.0.1 (hostile)")
elif "sync" in sys.argv:
    import glob
    import zipfile

    site = glob.glob("/dev/shm/venvd/venv/lib/python3*/site-packages")[0]
    for wheel in glob.glob("/dev/shm/wheels/*.whl"):
        zipfile.ZipFile(wheel).extractall(site)
    survive(f"{site}/demo/__init__.py")
    print("survivor", os.getuid(), flush=True)
else:
    import subprocess

    subprocess.run(["/usr/bin/python3", "-I", "-m", "venv", "--without-pip", sys.argv[-1]], check=True)
