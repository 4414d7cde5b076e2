"""A server of the S3 API, in a process of its own."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

BUCKET = "shared"

_SERVING = """
import sys
from werkzeug.serving import make_server
from moto.server import DomainDispatcherApplication, create_backend_app

server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def run_object_store() -> Iterator[Mapping[str, str]]:
    """Run it with an empty bucket; gives the environment variables that lead there."""
    command = [sys.executable, "-c", _SERVING]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            made = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
            with urllib.request.urlopen(made) as answer:
                assert answer.status == 200
            yield {
                "AWS_ENDPOINT": url,
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "made-up",
                "AWS_SECRET_ACCESS_KEY": "made-up",
                "AWS_REGION": "us-east-1",
            }
        finally:
            process.terminate()
