// settings-files.test: what the parts read is good, and gives a gateway its own keys and no others.
// Path: chain → [settings-files] → parts. Touches: a temporary folder, redis-server.

import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Redis } from "ioredis";
import { LANDING_FUNCTIONS, landingKeys } from "#contract/landing";
import { readSettings } from "#runtime/settings";
import { loadLandingLibrary } from "../../../broker/ingest/landing-library.ts";
import { ensureCertificates } from "../../../scripts/chain/certificates.ts";
import { ChainFolder } from "../../../scripts/chain/folder.ts";
import { Part } from "../../../scripts/chain/part.ts";
import { planOf } from "../../../scripts/chain/plans.ts";
import { freePorts } from "../../../scripts/chain/ports.ts";
import {
  merged,
  type Passwords,
  type SettingsOptions,
  writeSettings,
} from "../../../scripts/chain/settings-files.ts";

const folder = new ChainFolder(await mkdtemp(join(tmpdir(), "sluice-settings-")));
const ports = await freePorts();
const options: SettingsOptions = {
  folder,
  ports,
  certificates: await ensureCertificates(folder.certificates, "gw-001", "gw-002"),
  gateways: 2,
  gatewaySettings: { limits: { connections_max: 7 }, bridge: null },
  cloudSettings: {},
};
const passwords: Passwords = await writeSettings(options);
const passwordOf = (gateway: number) => passwords.gateways[gateway - 1] ?? "";

test("the brokers' own check finds every settings file good", () => {
  assert.equal(readSettings(folder.settingsOf("cloud-1.toml")).name, "cloud-1");
  assert.equal(readSettings(folder.settingsOf("cloud-2.toml")).name, "cloud-2");
  const gateway = readSettings(folder.settingsOf("gateway.toml"));
  assert.equal(gateway.uplink?.url, `rediss://gw-001@localhost:${ports.landingFront}`);
  const second = readSettings(folder.settingsOf("gateway-2.toml"));
  assert.equal(second.uplink?.url, `rediss://gw-002@localhost:${ports.landingFront}`);
  assert.deepEqual(second.links, [], "the device is plugged into the first");
});

test("what is laid upon the settings is in them, and the rest stays", () => {
  const { limits, bridge, name } = readSettings(folder.settingsOf("gateway.toml"));
  assert.equal(limits.connections_max, 7);
  assert.equal(bridge.broker, "mqtt://127.0.0.1:1883", "taken away: the default again");
  assert.equal(name, "gw-001");
  assert.deepEqual(merged({ a: { b: 1, c: 2 }, d: [1] }, { a: { b: 3 }, d: [] }), {
    a: { b: 3, c: 2 },
    d: [],
  });
});

test("only the owner may read what holds a secret, and HAProxy's file holds none", () => {
  for (const name of ["landing.acl", "cluster.conf", "gateway.password"]) {
    assert.equal(statSync(folder.settingsOf(name)).mode & 0o077, 0, name);
  }
  const haproxy = readFileSync(folder.settingsOf("haproxy.cfg"), "utf8");
  for (const password of Object.values(passwords).flat()) assert.ok(!haproxy.includes(password));
});

const landing = new Part(
  planOf("landing", {
    ...{ folder, ports, passwords, program: "sources", deviceIntervalMs: 1_000 },
    ...{ haproxyReloads: false, environment: {} },
  }),
  { say() {}, started() {} },
);

const login = (username: string, password: string) =>
  new Redis({
    ...{ host: "127.0.0.1", port: ports.landing, username, password },
    enableReadyCheck: false,
    disableClientInfo: true,
  });

before(async () => {
  await mkdir(folder.dataOf("landing"), { recursive: true });
  await mkdir(folder.logs, { recursive: true });
  await landing.start();
  const cloud = login("cloud", passwords.cloud);
  await loadLandingLibrary(cloud);
  await cloud.xadd(landingKeys("gw-001").down, "*", "record", "x");
  cloud.disconnect();
});

after(async () => {
  await landing.stop();
  await rm(folder.path, { recursive: true, force: true });
});

test("a gateway may append, probe and read commands, and that is all that it needs", async () => {
  const gateway = login("gw-001", passwordOf(1));
  const { up, pos, down } = landingKeys("gw-001");
  const append = ["default", "1000", "0", "3", "frame"];
  assert.deepEqual(await gateway.call("FCALL", LANDING_FUNCTIONS.append, 2, up, pos, ...append), [
    "OK",
    "1000",
    "3",
  ]);
  const probe = ["default", "1000", "0-0"];
  assert.deepEqual(await gateway.call("FCALL", LANDING_FUNCTIONS.probe, 1, pos, ...probe), [
    "OK",
    "1000",
    "3",
  ]);
  const read = await gateway.xread("COUNT", 1, "BLOCK", 1_000, "STREAMS", down, "0");
  assert.equal(read?.[0]?.[1].length, 1);
  assert.equal(await gateway.ping(), "PONG");
  gateway.disconnect();
});

test("a gateway may not touch another's keys, delete, list, or speak to other clients", async () => {
  const gateway = login("gw-001", passwordOf(1));
  const other = landingKeys("gw-002");
  const own = landingKeys("gw-001");
  const refused: [string, ...string[]][] = [
    ["XADD", other.up, "*", "frame", "x"],
    ["FCALL", LANDING_FUNCTIONS.append, "2", other.up, other.pos, "default", "1", "0", "1", "x"],
    ["XREAD", "STREAMS", other.down, "0"],
    ["XADD", own.down, "*", "record", "x"],
    ...[own.up, own.pos, own.down].map((key): [string, string] => ["DEL", key]),
    ["XTRIM", own.up, "MAXLEN", "0"],
    ["KEYS", "*"],
    ["SCAN", "0"],
    ["INFO"],
    ["EVAL", "return 1", "0"],
    ["FUNCTION", "LIST"],
    ["FUNCTION", "FLUSH"],
    ["CONFIG", "GET", "*"],
    ["CLIENT", "LIST"],
    ["PUBLISH", "a", "b"],
    ["SUBSCRIBE", "a"],
    ["FLUSHALL"],
    ["ACL", "WHOAMI"],
  ];
  for (const [command, ...args] of refused) {
    const call = gateway.call(command, ...args);
    await assert.rejects(call, /NOPERM|can't run this command/, `${command} ${args.join(" ")}`);
  }
  gateway.disconnect();
});

test("nobody gets in without a name, and the health user may only ask for the role", async () => {
  const nobody = new Redis({ port: ports.landing, enableReadyCheck: false, retryStrategy: null });
  nobody.on("error", () => {});
  await assert.rejects(nobody.ping(), /NOAUTH/);
  nobody.disconnect();
  const health = login("health", passwords.health);
  assert.equal(((await health.role()) as string[])[0], "master");
  await assert.rejects(health.get("a"), /NOPERM/);
  health.disconnect();
});
