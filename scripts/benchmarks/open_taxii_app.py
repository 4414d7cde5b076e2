"""OpenTAXII as gunicorn runs it, in its own environment; run as a program, it is set up.

python -m benchmarks.open_taxii_app FILE    makes an API root, a collection and an account
"""

import json
import secrets
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from opentaxii.http import app
from opentaxii.taxii2 import http

# Version 0.9.3 answers 500 where an answer holds an identifier, for JSON has no UUID. The fix is
# in its repository and in no release: eclecticiq/OpenTAXII, issue 243.
http.json = SimpleNamespace(dumps=partial(json.dumps, default=str))


def main(path: Path) -> None:
    """Write to the file what a member has to know."""
    user, password = "bench", secrets.token_urlsafe()
    with app.app_context():
        taxii = app.taxii_server.servers.taxii2.persistence.api
        root = taxii.add_api_root(title="Bench", default=True)
        collection = taxii.add_collection(api_root_id=root.id, title="Bench")
        app.taxii_server.auth.api.create_account(user, password, is_admin=True)
        made = {"root": str(root.id), "collection": str(collection.id)}
    path.write_text(json.dumps(made | {"user": user, "password": password}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
