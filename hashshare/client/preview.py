"""Previews: what a change of the registry would make of the lists, as the server computes it.

Nothing of it is signed: it is what this server says, to help an admin decide. What is published
afterwards is verified like everything else.
"""

from collections.abc import AsyncIterator
from typing import Final

from hashshare.client.session import Session
from hashshare.domain.documents import encode_document
from hashshare.domain.registry import Registry
from hashshare.errors import MalformedError
from hashshare.wire.compression import Inflater
from hashshare.wire.members import PreviewRequest
from hashshare.wire.preview import MAX_LINE_BYTES, PreviewEnd, PreviewLine, PreviewList, parse_line

MAX_BYTES: Final = 2**40


async def fetch_preview(
    session: Session, proposed: Registry, *, most: int | None
) -> AsyncIterator[PreviewLine]:
    """Yield the lines of a preview, as they come; the last one says that it is whole.

    Args:
        session: Of an admin.
        proposed: The next version of the registry.
        most: How many changes of each list to be told of; None for all.

    Raises:
        RegistryConflictError: It is not the next version any more.
        MalformedError: The answer is no preview, or ends early.
        UnavailableError: The server cannot be reached, or makes another preview.
    """
    path = "/v1/previews" + ("" if most is None else f"?changes={most}")
    body = PreviewRequest(document=encode_document(proposed)).encode()
    inflater, rest, lists = Inflater(max_bytes=MAX_BYTES), b"", 0
    line: PreviewLine | None = None
    async with session.stream(path, method="POST", body=body) as (_, chunks):
        async for chunk in chunks:
            for piece in inflater.feed(chunk):
                *complete, rest = (rest + piece).split(b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    raise MalformedError(f"a line has more than {MAX_LINE_BYTES} bytes")
                for text in complete:
                    line = parse_line(text)
                    lists += isinstance(line, PreviewList)
                    yield line
    inflater.finish()
    if rest or not isinstance(line, PreviewEnd) or line.lists != lists:
        raise MalformedError("the preview ends early")
