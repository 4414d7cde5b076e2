"""Vocabularies in the console: which terms a view selects by, and setting it so."""

import asyncio
from pathlib import Path

from hashshare.client import Client
from hashshare.client.proposal import RegistryProposal, parse_proposal
from hashshare.domain.policy import View
from tests.client.test_vocabularies import put
from tests.http.test_console import browser
from tests.http.test_console_acts import VIEW, download, post
from tests.support.federation import Federation
from tests.support.vocabularies import with_vocabularies


async def test_the_console_shows_by_which_terms_a_view_selects(
    federation: Federation, tmp_path: Path
) -> None:
    """From which vocabulary the classifications are, too; and it proposes other terms."""
    view = View(terms=("abc:A",), excluded_terms=("ours:B1",))
    await put(
        federation,
        lambda registry: with_vocabularies(registry, "csam").with_view("csam", "confirmed", view),
    )
    async with browser(federation.admin) as session:
        page = await (await session.get("/console/hash-sets")).text()
        form = await (await session.get("/console/hash-sets/csam/views?view=confirmed")).text()
        for wrong in ("A", "abc:Z", "baseline:in"):
            await post(session, "/proposals", VIEW | {"terms": wrong}, 400)
    for words in ("A1, A2, B1 of vocabulary ours<", ">abc:A<", ">ours:B1<"):
        assert words in page
    for words in ('name="terms"', 'value="abc:A"', 'value="ours:B1"'):
        assert words in form
    path = await download(
        federation, VIEW | {"terms": "ours:A1,abc:B", "excluded_terms": ""}, tmp_path / "p.json"
    )
    data = await asyncio.to_thread(path.read_bytes)
    async with Client(federation.admin) as admin:
        current = await admin.admin.registry()
    proposal = parse_proposal(data, current, current.governance)
    assert isinstance(proposal, RegistryProposal)
    proposed = proposal.proposed.hash_set("csam").views["confirmed"]
    assert proposed == View(dispute_limit=2, terms=("abc:B", "ours:A1"))
