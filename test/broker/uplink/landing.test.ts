// landing.test: what the gateway may ask of the landing with no more rights than its own.
// Path: test. Touches: a real Redis on loopback, a temporary folder.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { landingKeys } from "#contract/landing";
import { loadLandingLibrary } from "../../../broker/ingest/landing-library.ts";
import { Landing } from "../../../broker/uplink/landing.ts";
import { startRedis } from "../../support/redis-server.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";

const GATEWAY = "gw-001";

test("appends, probes, reads commands and the time with a gateway's rights alone", async (t) => {
  const redis = await startRedis(t);
  await loadLandingLibrary(redis.client);
  const { up, pos, down } = landingKeys(GATEWAY);
  const rights = "-@all +fcall +xadd +hget +hset +time +xread +ping +hello +client|setname";
  const keys = `%RW~${up} %RW~${pos} %R~${down} resetchannels`;
  const user = `${GATEWAY} reset on >secret ${keys} ${rights}`;
  await redis.client.call("ACL", "SETUSER", ...user.split(" "));
  await redis.client.xadd(down, "5-0", "record", "x");
  const password_file = join(temporaryFolder(t), "password");
  writeFileSync(password_file, "secret\n", { mode: 0o600 });
  const landing = await Landing.connect({ url: redis.url, password_file }, GATEWAY);
  t.after(() => landing.close());

  const where = { lane: "default", epoch: 7 };
  const frame = { prev: 0, last: 1, frame: Uint8Array.of(1), sentMs: 1_000.9 };
  const answer = await landing.append({ ...where, ...frame, writer: "one" });
  assert.deepEqual(answer, { status: "OK", epoch: 7, seq: 1 });
  const probe = { ...where, writers: ["two", "one"], downCursor: "0-0" };
  assert.deepEqual(await landing.probe(probe), answer);
  const [command] = await landing.readCommands("0-0");
  assert.equal(command?.cursor, "5-0");
  const [seconds, microseconds] = await redis.client.time();
  const nowMs = Number(seconds) * 1_000 + Number(microseconds) / 1_000;
  const differenceMs = (await landing.nowMs()) - nowMs;
  assert.ok(differenceMs >= 0 && differenceMs < 5_000, `${differenceMs}`);
});
