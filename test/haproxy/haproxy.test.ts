// haproxy.test: haproxy.cfg is what the inventory says, and HAProxy takes it.
// Path: reference → render → haproxy.cfg. Touches: a temporary folder, haproxy -c.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { REFERENCE_INVENTORY } from "../../haproxy/reference.ts";
import {
  type HaproxyInventory,
  HEALTH_PASSWORD_VARIABLE,
  renderHaproxy,
} from "../../haproxy/render.ts";
import { HEALTH_PASSWORD, workplace } from "./support.ts";

const run = promisify(execFile);
const { folder, certificates, remove } = await workplace();
after(remove);

test("haproxy.cfg is the rendering of the reference inventory", async () => {
  const path = join(import.meta.dirname, "../../haproxy/haproxy.cfg");
  assert.equal(
    await readFile(path, "utf8"),
    renderHaproxy(REFERENCE_INVENTORY),
    "render it again: node haproxy/main.ts > haproxy/haproxy.cfg",
  );
});

test("haproxy.cfg is accepted by haproxy, with every option", async () => {
  // One that is not valid ends with a code that makes this reject; HAProxy 3 says no more.
  const { stderr } = await check(renderHaproxy(withFiles(REFERENCE_INVENTORY)), {
    [HEALTH_PASSWORD_VARIABLE]: HEALTH_PASSWORD,
  });
  assert.equal(stderr, "", "no warnings");
});

test("haproxy.cfg is refused without the health user's password, which it names", async () => {
  const text = renderHaproxy(withFiles(REFERENCE_INVENTORY));
  await assert.rejects(check(text, {}), { stderr: new RegExp(HEALTH_PASSWORD_VARIABLE) });
});

/** The inventory with files that are there, in place of those of a real machine. */
function withFiles({ runAs: _, ...inventory }: HaproxyInventory): HaproxyInventory {
  return {
    ...inventory,
    adminSocket: join(folder, "admin.sock"),
    mqtts: { ...inventory.mqtts, certificate: certificates.serverPem, clientCa: certificates.ca },
    wss: { bind: "127.0.0.1:8084", certificate: certificates.serverPem },
    landing: {
      ...inventory.landing,
      certificate: certificates.serverPem,
      gatewayCa: certificates.ca,
    },
  };
}

async function check(text: string, env: Record<string, string>) {
  const file = join(folder, "checked.cfg");
  await writeFile(file, text);
  const { [HEALTH_PASSWORD_VARIABLE]: _, ...own } = process.env;
  return run("haproxy", ["-c", "-f", file], { env: { ...own, ...env } });
}
