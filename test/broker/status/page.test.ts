// page.test: what a browser shows of the status page.
// Path: test. Touches: loopback, Chromium, a temporary folder.

import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";
import type { StatusDocument } from "#contract/status";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { startStatus } from "../../../broker/status/status.ts";
import { cloudDocument, gatewayDocument, LANE } from "./documents.ts";

const chromium = ["chromium", "chromium-browser", "google-chrome"].find(
  (name) => !spawnSync(name, ["--version"]).error,
);
const skip = chromium === undefined ? "no Chromium is installed" : false;
const log = createLog({ level: "error", process: "test" });

/** The text that the page shows once its script has run; hidden parts are left out. */
async function shown(t: TestContext, document: StatusDocument): Promise<string> {
  const options = { address: "127.0.0.1:0", metrics: new Metrics(), log };
  const status = await startStatus({ ...options, document: () => document });
  const profile = mkdtempSync(join(tmpdir(), "sluice-page-"));
  t.after(async () => {
    await status.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  });
  const quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];
  const { stdout } = await promisify(execFile)(
    chromium ?? "",
    [
      ...["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", ...quiet],
      ...[`--user-data-dir=${profile}`, "--virtual-time-budget=1500", "--dump-dom"],
      `http://${status.address}/`,
    ],
    { timeout: 60_000, maxBuffer: 16 * 1024 * 1024 },
  );
  return stdout
    .replace(/<(script|style|noscript)>.*?<\/\1>/gs, "")
    .replace(/<section [^>]*hidden="">.*?<\/section>/gs, "")
    .replace(/<\/(td|th|li|div|h1|h2|p|tr)>/g, " | ")
    .replace(/<[^>]*>/g, "")
    .replace(/\s+/g, " ");
}

test("shows a gateway's outbox, uplink and connections", { skip, timeout: 90_000 }, async (t) => {
  const text = await shown(t, gatewayDocument(Date.now()));
  assert.match(text, /gw-001 \| ready Sluice 1\.2\.3, gateway, up 1h 0m, 12 connections/);
  assert.match(text, /online for 1m \d+s, cloud\.example\.com:6380/);
  assert.match(text, /119,190 messages sent, 3 commands received, 0 rewinds/);
  assert.match(
    text,
    /default \| 1,204 \| 1\.2 MiB \| 0\.1% 0\.1% of 1\.0 GiB \| 3m 1\ds \| 10 \/ 0 \| 119,190 of 120,394 \| 600, 64\.0 KiB \| 0/,
  );
  assert.match(text, /As of .* by the broker's clock/);
  assert.doesNotMatch(text, /What is wrong|Gateways/);
});

test("shows what is wrong and what was lost, as text and never as markup", {
  skip,
  timeout: 90_000,
}, async (t) => {
  const text = await shown(t, {
    ...gatewayDocument(Date.now()),
    name: "<b>gw</b>",
    ready: false,
    reasons: ["outbox is full", "<img src=x onerror=document.title='owned'>"],
    outbox: [{ ...LANE, lane: "<script>alert(1)</script>", dropped: { "over bytes_max": 88 } }],
  });
  assert.match(text, /&lt;b&gt;gw&lt;\/b&gt; \| not ready/);
  assert.match(text, /What is wrong \| outbox is full \| &lt;img src=x onerror=/);
  assert.match(text, /&lt;script&gt;alert\(1\)&lt;\/script&gt; \|.* \| 88 over bytes_max \|/);
  assert.doesNotMatch(text, /^owned/);
});

test("shows a cloud broker's gateways, why they are offline, and what was lost", {
  skip,
  timeout: 90_000,
}, async (t) => {
  const text = await shown(t, cloudDocument(Date.now()));
  assert.match(text, /8 of 16 partitions are this broker's, 3 dead letters are kept/);
  assert.match(text, /gw-001 \| online \| \| 1,234 \| - \| 0 \| 0 \|/);
  assert.match(
    text,
    /gw-002 \| offline \| silent for 80 s \| 0 \| 1m 5s \| 80 limit \| 3 forgotten \| 5 unexplained \| \| 2 \|/,
  );
  assert.doesNotMatch(text, /Outbox|Uplink/);
});
