"""Vocabularies by commands alone: files in, files out, views by terms, and what is refused."""

import json
from pathlib import Path

import pytest

from hashshare.crypto import canonical
from tests.cli.test_commands import federation, hashes, sh
from tests.support.federation import Federation

__all__ = ["federation"]

ABC = "term,title,description\nA,[/b] :x:,The gravest\nB,Serious,\nC,Other,\n"
OURS = "term,title\nA1,Ours 1\nA2,Ours 2\nB1,Ours 3\n"
MAP = "term,relation,to\nA1,broadMatch,A\nA2,exactMatch,B\nB1,narrowMatch,A\n"


def write(folder: Path, **files: str) -> dict[str, Path]:
    """Write CSV files."""
    paths = {name: folder / f"{name}.csv" for name in files}
    for name, text in files.items():
        paths[name].write_text(text)
    return paths


async def add(admin: Path, file: Path, name: str, version: str = "1", *more: str) -> None:
    """Add a vocabulary from CSV."""
    words = ("--id", name, "--title", name.upper(), "--version", version, *more)
    done = await sh("vocabulary", "add", file, *words, "--json", profile=admin)
    assert (done.code, done.objects[0]["added"]) == (0, True), done.err


async def _found(admin: Path, folder: Path) -> dict[str, Path]:
    """Add two vocabularies with a mapping, and a hash set of one of them."""
    files = write(folder, abc=ABC, ours=OURS, map=MAP)
    await add(admin, files["abc"], "abc")
    await add(admin, files["ours"], "ours")
    words = ("--from", "ours", "--to", "abc")
    mapped = await sh("vocabulary", "map", files["map"], *words, "--json", profile=admin)
    assert mapped.objects == [{"from": "ours", "to": "abc", "terms": 3, "mapped": True}]
    made = await sh("hash-set", "create", "csam", "--vocabulary", "ours", profile=admin)
    assert made.code == 0, made.err
    return files


@pytest.mark.timeout(240)
async def test_vocabularies_go_in_and_come_out(federation: Federation, tmp_path: Path) -> None:
    """As JSON and as CSV, the same bytes each time."""
    admin = federation.admin.folder
    files = await _found(admin, tmp_path)
    listed = (await sh("vocabulary", "list", "--json", profile=admin)).objects
    assert [(o["vocabulary"], o["terms"], o["mapped_to"], o["hash_sets"]) for o in listed] == [
        ("abc", 3, [], []),
        ("ours", 3, ["abc"], ["csam"]),
    ]
    (hash_set,) = (await sh("hash-set", "show", "csam", "--json", profile=admin)).objects
    assert (hash_set["vocabulary"], hash_set["classifications"]) == ("ours", ["A1", "A2", "B1"])

    (shown,) = (await sh("vocabulary", "show", "ours", "--json", profile=admin)).objects
    assert [(t["term"], t["mapped_to"]) for t in shown["terms"]] == [
        ("A1", ["abc:A (broadMatch)"]),
        ("A2", ["abc:B (exactMatch)"]),
        ("B1", ["abc:A (narrowMatch)"]),
    ]
    seen = await sh("vocabulary", "show", "abc", profile=admin)
    assert "ours:A1 (broadMatch), ours:B1 (narrowMatch)" in seen.out
    assert "[/b] :x:" in seen.out

    for name, words in (("abc", ["abc"]), ("map", ["ours", "--to", "abc"])):
        export = ["vocabulary", "export", *words]
        csv, first, second = (tmp_path / f"{name}-{n}" for n in ("out.csv", "1.json", "2.json"))
        assert (await sh(*export, "--output", csv, profile=admin)).code == 0
        assert csv.read_bytes() == files[name].read_bytes()
        assert (await sh(*export, "--output", first, profile=admin)).code == 0
        assert first.read_bytes() == canonical.encode(json.loads(first.read_text()))
        assert (await sh(*export, profile=admin)).out == first.read_text()
        over = await sh(*export, "--output", first, profile=admin)
        assert (over.code, over.out) == (1, "")
        # Spaced by somebody, and put in again: nothing changes.
        first.write_text(json.dumps(json.loads(first.read_text()), indent=2))
        again = ["map", first] if name == "map" else ["add", first, "--replace"]
        put = await sh("vocabulary", *again, "--json", profile=admin)
        assert put.code == 0, put.err
        assert False in put.objects[0].values()
        assert (await sh(*export, "--output", second, profile=admin)).code == 0
        assert (await sh(*export, profile=admin)).out == second.read_text()


@pytest.mark.timeout(240)
async def test_a_view_by_terms_is_previewed_and_published(
    federation: Federation, tmp_path: Path
) -> None:
    """The member pushes its own terms, and reads them again in a list that others' terms select."""
    admin, acme = federation.admin.folder, tmp_path / "acme"
    files = await _found(admin, tmp_path)
    invited = await sh("member", "invite", "acme", "--role", "contributor", "--json", profile=admin)
    assert (await sh("enrol", invited.objects[0]["invitation"], profile=acme)).code == 0
    source = tmp_path / "hashes.csv"
    rows = zip(hashes(1, 2, 3), ("A1", "A2", "B1"), strict=True)
    source.write_text("sha256,classification\n" + "".join(f"{h},{c}\n" for h, c in rows))
    pushed = await sh("push", "csam", source, profile=acme)
    assert pushed.code == 0, pushed.err

    told = await sh("view", "preview", "csam/all", "--terms", "abc:A", "--json", profile=admin)
    counts = {o["list"]: (o["before"], o["after"]) for o in told.objects if o["kind"] == "list"}
    assert counts["csam/all/sha256"] == (3, 1)
    made = await sh("view", "create", "csam/grave", "--terms", "abc:A", profile=admin)
    assert made.code == 0, made.err
    for words, after in (
        (["set", "csam/all", "--excluded-terms", "abc:A,ours:A2"], (3, 0)),
        (["set", "csam/grave", "--terms", "abc:B,ours:B1"], (1, 2)),
        (["set", "csam/grave", "--terms", ""], (1, 3)),
    ):
        told = await sh("view", *words, "--preview", "--json", profile=admin)
        counts = {o["list"]: (o["before"], o["after"]) for o in told.objects if o["kind"] == "list"}
        assert counts[f"{words[1]}/sha256"] == after
    changed = tmp_path / "changed.csv"
    changed.write_text(MAP.replace("narrowMatch", "exactMatch"))
    mapping = ("vocabulary", "map", changed, "--from", "ours", "--to", "abc")
    told = await sh(*mapping, "--preview", "--json", profile=admin)
    counts = {o["list"]: (o["before"], o["after"]) for o in told.objects if o["kind"] == "list"}
    assert counts["csam/grave/sha256"] == (1, 2)
    assert "csam/all/sha256" not in counts
    assert (await sh(*mapping, profile=admin)).code == 0

    await _read(federation, acme)
    assert files["map"].exists()


async def _read(federation: Federation, acme: Path) -> None:
    size = await federation.pool.fetchval("SELECT count(*) FROM leaf")
    await federation.published(size - 1)
    assert (await sh("pull", profile=acme)).code == 0
    out = await sh("export", "csam/grave/sha256", "--format", "ndjson", profile=acme)
    assert [o["attributes"] for o in out.objects] == [
        {"by": {"acme": "A1"}},
        {"by": {"acme": "B1"}},
    ]
    said = await sh("provenance", "csam", f"sha256:{hashes(3)[0]}", "--json", profile=acme)
    assert [o["classification"] for o in said.objects] == ["B1"]


@pytest.mark.timeout(240)
async def test_what_is_wrong_with_a_vocabulary_is_said_in_a_line(
    federation: Federation, tmp_path: Path
) -> None:
    """And what to do next; nothing is changed by it."""
    admin = federation.admin.folder
    files = await _found(admin, tmp_path)
    await sh("view", "create", "csam/grave", "--terms", "abc:A", profile=admin)
    paths = write(
        tmp_path,
        twice="term,title\nA,a\nA,b\n",
        headless="A,a\n",
        fewer="term,title\nB,b\n",
        unrelated="term,relation,to\nA1,closeMatch,A\n",
        unknown="term,relation,to\nZ9,exactMatch,A\n",
        self="term,relation,to\nA1,exactMatch,A2\n",
    )
    (tmp_path / "broken.json").write_text('{"id":"abc"')
    (tmp_path / "long.json").write_text(" " * 5_000_000)
    (tmp_path / "part.json").write_text('{"id":"abc","title":"A","terms":{"A":{"title":"a"}}}')
    about = ("--id", "new", "--title", "New", "--version", "1")
    between = ("--from", "ours", "--to", "abc")
    before = (await sh("vocabulary", "list", "--json", profile=admin)).out
    for words, said in (
        (["add", paths["twice"], *about], "line 3: term 'A' is there twice"),
        (["add", paths["headless"], *about], "the first line is term,title"),
        (["add", files["abc"], "--id", "new"], "tell the rest with --id, --title, --version"),
        (["add", files["abc"], "--id", "N", *about[2:]], "id"),
        (["add", files["abc"], "--id", "abc", *about[2:]], "already"),
        (["add", paths["fewer"], "--id", "abc", "--title", "T", "--version", "2", "--replace"],
         "hashshare vocabulary show abc"),
        (["add", paths["twice"].with_name("none.csv"), *about], "No such file"),
        (["add", tmp_path / "broken.json"], "no JSON"),
        (["add", tmp_path / "long.json"], "at most"),
        (["add", tmp_path / "part.json"], "missing required field `version`"),
        (["add", tmp_path / "part.json", "--version", "1"], "leave out --version"),
        (["map", paths["unrelated"], *between], "exactMatch, broadMatch, narrowMatch"),
        (["map", paths["unknown"], *between], "hashshare vocabulary show ours"),
        (["map", paths["self"], "--from", "ours", "--to", "ours"], "not mapped to itself"),
        (["map", files["map"], "--from", "ours", "--to", "none"], "hashshare vocabulary add FILE"),
        (["map", files["map"]], "tell the rest with --from, --to"),
        (["unmap", "ours", "abc"], "hashshare vocabulary map FILE"),
        (["unmap", "abc", "ours"], "hashshare vocabulary list"),
        (["remove", "ours"], "needs the vocabulary 'ours'"),
        (["remove", "none"], "hashshare vocabulary list"),
        (["show", "none"], "hashshare vocabulary list"),
        (["export", "none"], "hashshare vocabulary list"),
        (["export", "abc", "--to", "ours"], "hashshare vocabulary list"),
    ):  # fmt: skip
        refused = await sh("vocabulary", *words, profile=admin)
        assert (refused.code, refused.out) == (1, ""), (words, refused)
        assert said in refused.err, (words, refused.err)
        assert "Traceback" not in refused.err
    assert (await sh("vocabulary", "list", "--json", profile=admin)).out == before
    for words, said in (
        (["view", "set", "csam/all", "--terms", "A"], "VOCABULARY:TERM"),
        (["view", "set", "csam/all", "--terms", "abc:Z"], "hashshare vocabulary show abc"),
        (["hash-set", "set", "csam", "--vocabulary", "none"], "hashshare vocabulary list"),
        (["hash-set", "set", "csam", "--vocabulary", ""], "--vocabulary ID"),
        (["hash-set", "set", "csam", "--classifications", "Z9"], "hashshare vocabulary show ours"),
    ):
        refused = await sh(*words, profile=admin)
        assert (refused.code, said in refused.err) == (1, True), refused.err


@pytest.mark.timeout(240)
async def test_what_nothing_uses_is_taken_out(federation: Federation, tmp_path: Path) -> None:
    """A hash set may go back to a list of its own, and then nothing is left behind."""
    admin = federation.admin.folder
    await _found(admin, tmp_path)
    for words in (
        ["vocabulary", "unmap", "ours", "abc"],
        ["vocabulary", "remove", "abc"],
        ["hash-set", "set", "csam", "--vocabulary", ""],
        ["vocabulary", "remove", "ours"],
    ):
        told = await sh(*words, "--preview", profile=admin)
        assert (told.code, "nothing was changed" in told.err) == (0, True), told.err
        done = await sh(*words, "--json", profile=admin)
        assert (done.code, True in done.objects[0].values()) == (0, True), done.err
    assert (await sh("vocabulary", "list", "--json", profile=admin)).out == ""
    (hash_set,) = (await sh("hash-set", "show", "csam", "--json", profile=admin)).objects
    assert ("vocabulary" in hash_set, hash_set["classifications"]) == (False, ["A1", "A2", "B1"])
