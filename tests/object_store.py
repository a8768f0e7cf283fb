"""An S3 server on loopback, and addresses of folders in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Refusals:
    """A store's bad hours: while `are_on`, all that it is asked is answered with 503."""

    are_on = False

    def before(self, app: Any) -> Any:
        """Return an application that refuses, or hands on to another."""

        def answer(environ: Any, start_response: Any) -> Any:
            if not self.are_on:
                return app(environ, start_response)
            start_response("503 Slow Down", [("Content-Type", "application/xml"), ("Connection", "close")])
            return [b"<Error><Code>SlowDown</Code><Message>Ask later.</Message></Error>"]

        return answer


@contextmanager
def object_store(bucket: str, host: str = "127.0.0.1", refusals: Refusals | None = None) -> Iterator[str]:
    """Serve one bucket at an address of this machine; yield the bucket's own, NAME in it for a folder's name.

    This process and all that it starts meanwhile have the credentials.
    """
    from moto.server import ThreadedMotoServer
    from pyarrow import fs

    server = ThreadedMotoServer(ip_address=host, port=0, verbose=False)
    server.start()
    if refusals is not None:
        server._server.app = refusals.before(server._server.app)  # type: ignore[union-attr]
    _, port = server.get_host_and_port()
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    options = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    filesystem, root = fs.FileSystem.from_uri(f"s3://{bucket}?{options}")
    filesystem.create_dir(root)
    try:
        yield f"s3://{bucket}/NAME?{options}"
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
