import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Redis } from "ioredis";
import { landingKeys } from "#contract/landing";
import { createLog } from "#runtime/log";
import { Budget } from "../../../broker/ingest/budget.ts";
import { Landing } from "../../../broker/ingest/landing.ts";
import { type RedisServer, startRedis } from "../../support/redis-server.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

const GATEWAY = "gw-001";
const BYTES_MAX = 100_000;
/** The time between two measurements. */
const EVERY_MS = 10_000;

/** A landing with one gateway's user, and what the budget of the cloud's user says. */
async function open(t: TestContext, server: RedisServer, rights = "+@all") {
  const { client, port, url } = server;
  await client.acl("SETUSER", GATEWAY, "on", ">secret", `~${landingKeys(GATEWAY).up}`, "+@all");
  await client.acl("SETUSER", "cloud", "on", ">cloud", "~*", "+@all", ...rights.split(" "));
  const gateway = new Redis(port, "127.0.0.1", {
    ...{ username: GATEWAY, password: "secret", retryStrategy: () => null, lazyConnect: true },
  });
  gateway.on("error", () => {});
  await gateway.connect();
  const password_file = join(temporaryFolder(t), "password");
  writeFileSync(password_file, "cloud", { mode: 0o600 });
  const landing = await Landing.connect({ url: url.replace("//", "//cloud@"), password_file });
  t.after(() => {
    gateway.disconnect();
    landing.close();
  });
  const said: string[] = [];
  const log = Object.assign(Object.create(createLog({ level: "error", process: "test" })), {
    warn: (_about: object, text: string) => said.push(text),
    error: (_about: object, text: string) => said.push(text),
  });
  const now = { ms: 0 };
  const switchedOff: string[] = [];
  const budget = new Budget({
    gatewayBytesMax: BYTES_MAX,
    nowMs: () => now.ms,
    switchedOff: (name) => switchedOff.push(name),
    log,
  });
  const look = async () => {
    now.ms += EVERY_MS;
    await budget.look(landing, GATEWAY);
  };
  const fill = (bytes: number) =>
    gateway.xadd(landingKeys(GATEWAY).up, "*", "frame", Buffer.alloc(bytes));
  return { client, gateway, landing, budget, look, fill, now, said, switchedOff };
}

test("a gateway that takes more than twice its budget is cut off, until a person lets it in", async (t) => {
  const { client, gateway, budget, look, fill, said, switchedOff } = await open(
    t,
    await startRedis(t),
  );
  await fill(BYTES_MAX);
  await look();
  assert.deepEqual([budget.offWhy(GATEWAY), switchedOff], [undefined, []]);
  const closed = once(gateway, "close");
  await fill(2 * BYTES_MAX);
  await look();
  await closed;
  assert.equal(budget.offWhy(GATEWAY), "over its budget: its user is off");
  assert.deepEqual(switchedOff, [GATEWAY]);
  assert.deepEqual(said, ["over its budget: its user is switched off"]);
  await look();
  await client.del(landingKeys(GATEWAY).up);
  await look();
  assert.deepEqual([budget.offWhy(GATEWAY), switchedOff.length], ["its user is off", 1]);
  await client.acl("SETUSER", GATEWAY, "on");
  await look();
  assert.equal(budget.offWhy(GATEWAY), undefined);
});

test("a gateway is measured every ten seconds and no oftener", async (t) => {
  const { budget, landing, look, fill, now } = await open(t, await startRedis(t));
  await look();
  await fill(3 * BYTES_MAX);
  now.ms += EVERY_MS - 1;
  await budget.look(landing, GATEWAY);
  assert.equal(budget.offWhy(GATEWAY), undefined);
  now.ms += 1;
  await budget.look(landing, GATEWAY);
  assert.ok(budget.offWhy(GATEWAY));
});

test("says once that it may not watch, and creates no user where there is none", async (t) => {
  const server = await startRedis(t);
  const denied = await open(t, server, "-acl");
  await denied.fill(3 * BYTES_MAX);
  await denied.look();
  await denied.look();
  assert.deepEqual(denied.said, ["gateways' budgets are not watched"]);
  assert.deepEqual(denied.switchedOff, []);
  const allowed = await open(t, server);
  await server.client.acl("DELUSER", GATEWAY);
  await allowed.look();
  assert.deepEqual(allowed.said, ["over its budget, and no Redis user of its name"]);
  assert.equal(await server.client.acl("GETUSER", GATEWAY), null);
});
