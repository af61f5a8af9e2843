# Prints the member of a wheel that has a hash. Run with `-I -S`: python -I -S -c THIS WHEEL SHA256
# A wheel is a zip; nothing of it is run.

import hashlib
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    for name in sorted(wheel.namelist()):
        content = wheel.read(name)
        if hashlib.sha256(content).hexdigest() == sys.argv[2]:
            sys.stdout.buffer.write(content)
            break
    else:
        sys.exit("no file has that hash")
