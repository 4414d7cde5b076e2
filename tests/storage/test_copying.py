"""Binary COPY made by numpy against rows made one by one."""

import asyncpg
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hashshare.domain.columns import Texts
from hashshare.storage.copying import (
    Chosen,
    Constant,
    Fixed,
    Varied,
    constant_int8,
    encode_rows,
    to_int4,
)
from tests.support.examples import with_database

OPTIONS = [None, b"", b"one", b"three"]

rows = st.lists(
    st.tuples(
        st.integers(-(2**31), 2**31 - 1),
        st.integers(0, len(OPTIONS) - 1),
        st.text(alphabet="abc", max_size=5),
        st.binary(min_size=3, max_size=3),
    ),
    max_size=20,
)


@given(rows=rows)
@with_database
async def test_rows_arrive_as_they_were(dsn: str, rows: list[tuple[int, int, str, bytes]]) -> None:
    """Whatever their shapes, in their order."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("""
        CREATE TEMPORARY TABLE copied (
            place integer GENERATED ALWAYS AS IDENTITY,
            a integer, b text, c text, d bytea, e bigint, f text
        )
    """)
    texts = [text.encode() for _, _, text, _ in rows]
    # In reverse, and taken in reverse, as records of sorted hashes are.
    turned = Texts(b"".join(texts[::-1]), np.cumsum([len(t) for t in texts[::-1]], dtype=np.int64))
    order = np.arange(len(rows), dtype=np.int32)[::-1]
    fields: list[Fixed | Chosen | Varied | Constant] = [
        to_int4(np.array([number for number, _, _, _ in rows], dtype=np.int64)),
        Chosen(OPTIONS, np.array([choice for _, choice, _, _ in rows], dtype=np.int32)),
        Varied(turned, order),
        Fixed(np.frombuffer(b"".join(raw for *_, raw in rows), np.uint8).reshape(-1, 3)),
        constant_int8(-5),
        Constant(None),
    ]
    await connection.copy_to_table(
        "copied",
        source=encode_rows(fields, len(rows)),
        columns=list("abcdef"),
        format="binary",
    )
    copied = await connection.fetch("SELECT a, b, c, d, e, f FROM copied ORDER BY place")
    await connection.close()

    assert [tuple(row) for row in copied] == [
        (number, None if (chosen := OPTIONS[choice]) is None else chosen.decode(), text, raw, -5,
         None)
        for number, choice, text, raw in rows
    ]  # fmt: skip
