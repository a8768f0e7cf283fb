"""An S3 server on loopback, and addresses of folders in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def object_store(bucket: str) -> Iterator[str]:
    """Serve one bucket; yield its address, in which NAME stands for a folder's name.

    This process and all that it starts meanwhile have the credentials.
    """
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    options = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    filesystem, root = fs.FileSystem.from_uri(f"s3://{bucket}?{options}")
    filesystem.create_dir(root)
    try:
        yield f"s3://{bucket}/NAME?{options}"
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
