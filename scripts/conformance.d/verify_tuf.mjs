// Follows trust roots as files with tuf-js: verify_tuf.mjs LABEL FOLDER, run beside node_modules.
//
// FOLDER is what tests/conformance/trust_root.py writes. One line says what was verified, each
// begins with LABEL; the exit code is 1 if anything failed.

import { createHash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { join, normalize } from "node:path";
import { Updater } from "tuf-js";

const [label, folder] = process.argv.slice(2);
let served = "";

const server = createServer((request, response) => {
  try {
    const body = readFileSync(join(served, normalize(new URL(request.url, "http://x").pathname)));
    response.end(body);
  } catch {
    response.statusCode = 404;
    response.end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const base = `http://127.0.0.1:${server.address().port}`;

/** Refresh what a client holds in `held` from a repository, and return the trust document. */
async function follow(held, repository) {
  served = repository;
  const updater = new Updater({
    metadataDir: held,
    metadataBaseUrl: `${base}/metadata`,
    targetDir: held,
    targetBaseUrl: `${base}/targets`,
    config: { fetchRetries: 0 },
  });
  await updater.refresh();
  const target = await updater.getTargetInfo("trust.json");
  return readFileSync(await updater.downloadTarget(target, join(held, "document")));
}

/** Return a folder of a client that believes the first root, as an invitation names it. */
function joined() {
  const held = mkdtempSync(join(folder, "held-"));
  cpSync(join(folder, "1.root.json"), join(held, "root.json"));
  return held;
}

let failed = false;
async function step(what, work) {
  try {
    await work();
    console.log(`${label}: ${what}: ok`);
  } catch (error) {
    failed = true;
    console.log(`${label}: ${what}: failed (${error.name}: ${error.message})`);
  }
}

const digest = (data) => createHash("sha256").update(data).digest("hex");
const held = joined();
await step("a trust document through two ceremonies, root keys replaced, 3 of 5", async () => {
  const found = digest(await follow(held, join(folder, "repository")));
  const meant = digest(readFileSync(join(folder, "trust.json")));
  if (found !== meant) throw new Error("another document");
});
for (const name of readdirSync(join(folder, "refused")).sort()) {
  await step(`refused: ${name}`, async () => {
    // Both who has seen the newest, and who joins now, unless only the first can know.
    const clients = name.startsWith("older") ? [held] : [held, joined()];
    for (const client of clients) {
      try {
        await follow(client, join(folder, "refused", name));
      } catch {
        continue;
      }
      throw new Error("was believed");
    }
  });
}
server.close();
process.exit(failed ? 1 : 0);
