// status.test: what the firmware-bridge tells over HTTP, and that it lives without being heard.
// Path: test. Touches: loopback, temporary folders.

import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { LinksDocument } from "#contract/links";
import { Metrics } from "#runtime/metrics";
import { startStatus } from "../../../firmware-bridge/status/status.ts";
import { TROUBLED, WELL } from "../../broker/cli/links-document.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { capturedLog } from "../captured-log.ts";

/** Its answers, at a unix socket. */
function started(t: TestContext, document: () => LinksDocument) {
  const path = join(temporaryFolder(t), "status.sock");
  const { log, lines } = capturedLog();
  const status = startStatus({ address: `unix:${path}`, metrics: new Metrics(), log, document });
  t.after(() => status.close());
  return { path, lines, status, get: (url: string) => waitFor("an answer", () => get(path, url)) };
}

/** Undefined when nobody answers. */
async function get(socketPath: string, path: string) {
  const asked = request({ socketPath, path, agent: false }).end();
  try {
    const [response] = await once(asked, "response");
    return {
      status: response.statusCode,
      body: Buffer.concat(await response.toArray()).toString(),
    };
  } catch {
    return undefined;
  }
}

test("gives the document as it is at each look", async (t) => {
  let document = WELL;
  const { get } = started(t, () => document);
  assert.deepEqual(JSON.parse((await get("/links")).body), WELL);
  document = TROUBLED;
  assert.deepEqual(JSON.parse((await get("/links")).body), TROUBLED);
});

test("counts links and devices for Prometheus, at each look", async (t) => {
  let document = WELL;
  const { get } = started(t, () => document);
  const { body } = await get("/metrics");
  const expected = [
    'sluice_link_state{link="meter",state="up"} 1',
    'sluice_link_state{link="meter",state="failing"} 0',
    'sluice_link_received_bytes_total{link="meter"} 48160',
    'sluice_link_sent_bytes_total{link="meter"} 9632',
    'sluice_link_frames_total{link="meter"} 1204',
    'sluice_link_faults_total{link="meter"} 2',
    'sluice_link_opens_total{link="meter"} 1',
    'sluice_link_disconnects_total{link="meter"} 0',
    'sluice_link_errors_total{link="meter"} 1',
    'sluice_link_held_back_seconds_total{link="meter"} 1.5',
    `sluice_link_heard_seconds{link="meter"} ${(WELL.links[0]?.heardAtMs ?? 0) / 1_000}`,
    'sluice_device_online{device="meter"} 1',
    'sluice_device_messages_total{device="meter"} 1204',
    'sluice_device_acknowledged_total{device="meter"} 1200',
    'sluice_device_refused_total{device="meter"} 1',
    'sluice_device_policy_dropped_total{device="meter"} 2',
    'sluice_device_no_room_dropped_total{device="meter"} 4',
    'sluice_device_unacknowledged{device="meter"} 1',
    'sluice_device_commands_total{device="meter",outcome="failed"} 1',
    "# TYPE sluice_link_received_bytes_total counter",
    "# TYPE sluice_link_state gauge",
  ];
  const lines = body.split("\n");
  for (const line of expected) assert.ok(lines.includes(line), `${line}\n${body}`);
  assert.match(body, /^sluice_process_resident_bytes \d+$/m);
  assert.match(body, /^sluice_process_cpu_seconds_total [\d.]+$/m);
  // Where the kernel does not count overruns, 0 would be a lie.
  assert.doesNotMatch(body, /^sluice_link_overrun_bytes_total\{/m);
  document = TROUBLED;
  const after = (await get("/metrics")).body;
  assert.match(after, /^sluice_link_state\{link="boiler",state="absent"\} 1$/m);
  assert.doesNotMatch(after, /^sluice_link_heard_seconds\{link="boiler"\}/m);
});

test("is ready when every link is up or lent, and says of the others what they are", async (t) => {
  let document = WELL;
  const { get } = started(t, () => document);
  assert.deepEqual(await get("/readyz"), { status: 200, body: "ready\n" });
  document = TROUBLED;
  assert.deepEqual(await get("/readyz"), {
    status: 503,
    body:
      "boiler absent: /dev/serial/by-id/usb-boiler is not there\n" +
      "arduino failing: avrdude ended with code 1: avrdude error: unable to open programmer\n",
  });
  assert.deepEqual(await get("/healthz"), { status: 200, body: "ok\n" });
  assert.equal((await get("/")).status, 404);
});

test("lives without an address that is taken, says so once, and has it when it is free", async (t) => {
  const holder = createServer().listen(0, "127.0.0.1");
  await once(holder, "listening");
  t.after(() => holder.close());
  const { port } = holder.address() as { port: number };
  const { log, lines } = capturedLog();
  const address = `127.0.0.1:${port}`;
  const status = startStatus({ address, metrics: new Metrics(), log, document: () => WELL });
  t.after(() => status.close());
  await waitFor("the warning", () => lines.length > 0);
  assert.match(
    String(lines[0]?.why),
    /^\[bridge\.status\] address 127\.0\.0\.1:\d+ cannot be listened on: another process/,
  );
  holder.close();
  const answer = () => fetch(`http://${address}/healthz`).catch(() => undefined);
  await waitFor("an answer", async () => (await answer())?.ok, 10_000);
  assert.equal(lines.filter(({ level }) => level === "warn").length, 1);
});

test("replaces the unix socket of a bridge that was killed", async (t) => {
  const { path, status } = started(t, () => WELL);
  await waitFor("an answer", () => get(path, "/healthz"));
  const { log } = capturedLog();
  const options = { address: `unix:${path}`, metrics: new Metrics(), log, document: () => WELL };
  const second = startStatus(options);
  t.after(() => second.close());
  await status.close();
  await waitFor("an answer of the second", () => get(path, "/healthz"), 10_000);
});

test("tells nothing where the settings say so", async () => {
  const { log, lines } = capturedLog();
  const options = { address: "none", metrics: new Metrics(), log, document: () => WELL };
  await startStatus(options).close();
  assert.deepEqual(lines, []);
});
