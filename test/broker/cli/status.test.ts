// status.test: what `sluice status` and `sluice outbox` tell an operator, and with which exit code.
// Path: test. Touches: loopback, child processes, a temporary folder.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { GatewayStatus, LaneStatus, StatusDocument } from "#contract/status";
import { formatOutbox } from "../../../broker/cli/outbox.ts";
import { formatStatus } from "../../../broker/cli/status.ts";
import { GATEWAY_STATUS } from "../status/documents.ts";
import { sluice } from "./sluice-command.ts";

const NOW = Date.UTC(2026, 0, 2);

const lane: LaneStatus = {
  lane: "default",
  epoch: 1,
  lastSeq: 120_394,
  position: 119_190,
  waitingMessages: 1_204,
  waitingBytes: 1_258_291,
  oldestWaitingAtMs: NOW - 192_000,
  tailMessages: 600,
  tailBytes: 65_536,
  bytesMax: 1_073_741_824,
  arrivingPerSecond: 10.4,
  leavingPerSecond: 1_250,
  ageSecondsMax: null,
  whenFull: "reject",
  trouble: null,
  dropped: {},
};

const gateway: StatusDocument = {
  role: "gateway",
  name: "gw-001",
  version: "1.2.3",
  startedAtMs: NOW - 86_400_000 * 3,
  ready: true,
  reasons: [],
  connections: 12,
  outbox: [lane],
  uplink: {
    cloud: "cloud.example.com:6380",
    state: "online",
    why: "",
    sinceMs: NOW - 60_000,
    sentMessages: 119_190,
    receivedCommands: 1,
    rewinds: 0,
  },
};

const troubled: StatusDocument = {
  ...gateway,
  ready: false,
  reasons: ["uplink waiting: connect ECONNREFUSED 10.0.0.1:6380", "outbox is full"],
  outbox: [
    lane,
    {
      ...lane,
      lane: "alarms",
      waitingMessages: 0,
      waitingBytes: 0,
      oldestWaitingAtMs: null,
      dropped: { "over bytes_max": 86, "over age_seconds_max": 2 },
    },
  ],
  uplink: {
    ...(gateway.uplink as NonNullable<StatusDocument["uplink"]>),
    state: "waiting",
    why: "connect ECONNREFUSED 10.0.0.1:6380",
  },
};

/** A server in the broker's place; gives the address. */
async function serve(t: TestContext, answer: (response: ServerResponse) => void): Promise<string> {
  const server = createServer((_request, response) => answer(response));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const serveDocument = (t: TestContext, document: StatusDocument) =>
  serve(t, (response) => {
    response.setHeader("Date", new Date(NOW).toUTCString());
    response.end(JSON.stringify(document));
  });

test("reads in a few lines when all is well", () => {
  assert.equal(
    formatStatus(gateway, NOW),
    `gw-001: ready
  gateway  Sluice 1.2.3, up 3d 0h, 12 connections
  uplink   online for 1m 0s
           cloud.example.com:6380, 119,190 messages sent, 1 command received, 0 rewinds
  outbox   default: 1,204 waiting, 1.2 MiB of 1.0 GiB (0.1%), oldest 3m 12s, 1,250 leave a second
  lost     nothing
`,
  );
});

test("says first what is wrong, and what was lost", () => {
  assert.equal(
    formatStatus(troubled, NOW),
    `gw-001: NOT READY
  gateway  Sluice 1.2.3, up 3d 0h, 12 connections
  wrong    uplink waiting: connect ECONNREFUSED 10.0.0.1:6380
           outbox is full
  uplink   waiting for 1m 0s: connect ECONNREFUSED 10.0.0.1:6380
           cloud.example.com:6380, 119,190 messages sent, 1 command received, 0 rewinds
  outbox   default: 1,204 waiting, 1.2 MiB of 1.0 GiB (0.1%), oldest 3m 12s, 1,250 leave a second
           alarms: 0 waiting, 0 B of 1.0 GiB (0.0%)
  lost     86 messages of lane alarms, over bytes_max: gap records stand for them
           2 messages of lane alarms, over age_seconds_max: gap records stand for them
`,
  );
});

const { outbox: _, uplink: __, ...base } = gateway;

const cloud = (gateways: readonly GatewayStatus[], deadLetters = 0): StatusDocument => ({
  ...base,
  role: "cloud",
  ingest: { partitions: 16, partitionsOwned: 8, deadLetters, gateways },
});

test("names a cloud broker's offline gateways, and of many only the first", () => {
  const offline = (index: number): GatewayStatus => ({
    ...{ ...GATEWAY_STATUS, gateway: `gw-${index}`, state: "offline", why: "silent" },
  });
  const all = (count: number) => [
    GATEWAY_STATUS,
    ...Array.from({ length: count }, (___, index) => offline(index)),
  ];
  const few = formatStatus(cloud(all(1)), NOW);
  assert.match(
    few,
    / {2}ingest {3}8 of 16 partitions\n {2}gateways 1 online, 1 offline\n {11}gw-0 offline: silent\n$/,
  );
  const many = formatStatus(cloud(all(13)), NOW);
  assert.match(many, / {11}gw-9 offline: silent\n {11}and 3 more offline\n$/);
});

test("tells of a cloud broker what was lost of each gateway's messages, and what was buried", () => {
  const losing: GatewayStatus = {
    ...{ ...GATEWAY_STATUS, missingMessages: { limit: 80, forgotten: 1 } },
    ...{ lostMessages: 5, deadLetters: 1 },
  };
  const over = { ...GATEWAY_STATUS, gateway: "gw-002", why: "over its budget: its user is off" };
  const lines = formatStatus(cloud([losing, over], 1_200), NOW)
    .split("\n")
    .slice(3);
  assert.deepEqual(lines, [
    "  gateways 2 online, 0 offline",
    "           gw-002 online: over its budget: its user is off",
    "  lost     gw-001: 80 messages (limit), 1 message (forgotten), 5 messages (unexplained), 1 dead letter",
    "           1,200 dead letters kept for all gateways: XRANGE sluice:dead - +",
    "",
  ]);
});

test("lets nothing that the broker says move the cursor", () => {
  const text = formatStatus({ ...gateway, name: "\u001b[2J", reasons: ["a\nb\u0007"] }, NOW);
  assert.match(text, /^\\u\{1b\}\[2J: ready\n/);
  assert.match(text, / {2}wrong {4}a\\nb\\u\{7\}\n/);
});

test("shows the lanes as a table", () => {
  const lines = formatOutbox(troubled.outbox ?? [], NOW).split("\n");
  assert.deepEqual(
    lines.map((line) => line.split(/\s{2,}/).join("|")),
    [
      "lane|waiting|bytes|oldest|in/s|out/s|limit|filled|full|last|position|tail|dropped",
      "default|1,204|1.2 MiB|3m 12s|10|1,250|1.0 GiB|0.1%|reject|120,394|119,190|600 (64.0 KiB)|0",
      "alarms|0|0 B|-|10|1,250|1.0 GiB|0.0%|reject|120,394|119,190|600 (64.0 KiB)|88",
      "alarms: 86 messages dropped: over bytes_max",
      "alarms: 2 messages dropped: over age_seconds_max",
      "",
    ],
  );
  assert.equal(new Set(lines.slice(0, 3).map((line) => line.length)).size, 1);
});

test("ends with 0 when the broker is ready, with 1 when it is not", async (t) => {
  const good = await sluice(t, "status", "--status", await serveDocument(t, gateway));
  assert.deepEqual([good.code, good.stderr], [0, ""]);
  assert.equal(good.stdout, formatStatus(gateway, NOW));
  const bad = await sluice(t, "status", "--status", await serveDocument(t, troubled));
  assert.equal(bad.code, 1);
  assert.match(bad.stdout, /^gw-001: NOT READY\n/);
});

test("gives a program the document as it is", async (t) => {
  const address = await serveDocument(t, troubled);
  const { code, stdout } = await sluice(t, "status", "--json", "--status", address);
  assert.equal(code, 1);
  assert.deepEqual(JSON.parse(stdout), troubled);
  const lanes = await sluice(t, "outbox", "--json", "--status", address);
  assert.equal(lanes.code, 0);
  assert.deepEqual(JSON.parse(lanes.stdout), troubled.outbox);
});

test("shows the outbox, and says when there is none", async (t) => {
  const address = await serveDocument(t, gateway);
  assert.equal((await sluice(t, "outbox", "--status", address)).stdout, formatOutbox([lane], NOW));
  const { outbox: ___, ...none } = gateway;
  const other = await serveDocument(t, { ...none, role: "cloud", name: "cloud-1" });
  const { code, stdout } = await sluice(t, "outbox", "--status", other);
  assert.deepEqual([code, stdout], [0, "cloud-1 (cloud) has no outbox\n"]);
  assert.equal((await sluice(t, "outbox", "--json", "--status", other)).stdout, "[]\n");
});

test("asks where the settings say", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "sluice-test-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const config = join(folder, "sluice.toml");
  const address = await serveDocument(t, gateway);
  const { port } = new URL(`http://${address}`);
  writeFileSync(config, `role = "gateway"\nstatus.address = "0.0.0.0:${port}"\n`);
  const { code, stdout } = await sluice(t, "status", "--config", config);
  assert.equal(code, 0);
  assert.match(stdout, /^gw-001: ready\n/);
});

test("names the settings file that it cannot read, and ends with 2", async (t) => {
  const { code, stderr } = await sluice(t, "status", "--config", "/none/sluice.toml");
  assert.equal(code, 2);
  assert.match(stderr, /^sluice: settings \/none\/sluice\.toml cannot be read: .*\n$/);
});

test("names the address and what to look at when nobody answers, in one line", async (t) => {
  const closed = createServer().listen(0, "127.0.0.1");
  await once(closed, "listening");
  const address = `127.0.0.1:${(closed.address() as AddressInfo).port}`;
  closed.close();
  await once(closed, "close");
  for (const command of ["status", "outbox"]) {
    const { code, stdout, stderr } = await sluice(t, command, "--status", address);
    assert.deepEqual([code, stdout], [1, ""]);
    const [host, port] = address.split(":");
    assert.equal(
      stderr,
      `sluice: no status from the broker at ${address}: connect ECONNREFUSED ${host}:${port}; ` +
        "is the service running? systemctl status sluice-broker\n",
    );
  }
});

test("says that it waited in vain for one who never answers, or not to the end", async (t) => {
  const never = await serve(t, () => {});
  const notToTheEnd = await serve(t, (response) => response.write('{"ready":'));
  const asked = [never, notToTheEnd].map((address) => sluice(t, "status", "--status", address));
  for (const { code, stderr } of await Promise.all(asked)) {
    assert.equal(code, 1);
    assert.match(stderr, /^sluice: no status from the broker at \S+: no answer within 5 s; .*\n$/);
  }
});

test("does not take another server for a broker", async (t) => {
  for (const [code, body] of [
    [404, "no"],
    [200, "<html>"],
    [200, "null"],
    [200, '{"ready":1}'],
  ]) {
    const address = await serve(t, (response) => {
      response.statusCode = Number(code);
      response.end(body);
    });
    const result = await sluice(t, "status", "--status", address);
    assert.equal(result.code, 1);
    assert.match(result.stderr, /answers, but not as a Sluice broker \(HTTP \d+\)\n$/);
  }
});

test("refuses an address that is none", async (t) => {
  for (const address of ["9883", "localhost", "localhost:0", "localhost:70000", "unix:"]) {
    const { code, stderr } = await sluice(t, "status", "--status", address);
    assert.equal(code, 2);
    assert.match(stderr, /^sluice: --status is "\S+"; allowed: host:port, .*\n/);
  }
});
