import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { askRedis, createRedis, explainRedis, openRedis } from "#runtime/redis";
import { startRedis } from "../../support/redis-server.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";

test("says what an operator can act on", () => {
  const coded = (code: string) => Object.assign(new Error("no"), { code });
  assert.match(explainRedis(new Error("WRONGPASS invalid")), /refuses the user or the password/);
  assert.match(explainRedis(new Error("NOPERM this user")), /refuses the right/);
  assert.match(explainRedis(new Error("ERR Function not found")), /no function library yet/);
  assert.equal(explainRedis(coded("ECONNRESET")), "no (ECONNRESET)");
});

test("names the clock, not the certificate, while the clock stands in 1970", () => {
  const early = Object.assign(new Error("certificate is not yet valid"), {
    code: "CERT_NOT_YET_VALID",
  });
  assert.match(explainRedis(early, 60_000), /the clock says 1970-01-01T00:01:00/);
  assert.match(explainRedis(early, Date.UTC(2026, 5)), /certificate is not yet valid/);
});

test("opening tells the first reason, typed: a wrong password, nobody there", async (t) => {
  const redis = await startRedis(t, "--requirepass", "right");
  const password_file = join(temporaryFolder(t), "password");
  writeFileSync(password_file, "wrong\n");
  await assert.rejects(openRedis("landing", { url: redis.url, password_file }), {
    code: "ACCESS_DENIED",
    message: /^landing: Redis refuses the user or the password/,
  });
  writeFileSync(password_file, "right\n");
  const { redis: open } = await openRedis("landing", { url: redis.url, password_file });
  assert.equal(await open.ping(), "PONG");
  open.disconnect();
  await assert.rejects(openRedis("landing", { url: "redis://127.0.0.1:1" }), {
    code: "CLOUD_UNREACHABLE",
    message: /^landing: .*ECONNREFUSED/,
  });
});

test("a strict connection refuses commands while it is down, and comes back", async (t) => {
  const server = await startRedis(t);
  const strict = createRedis({ url: server.url }, "strict");
  strict.on("error", () => {});
  t.after(() => strict.disconnect());
  await strict.connect();
  await server.kill();
  await waitFor("the loss to be seen", () => strict.status !== "ready");
  await assert.rejects(
    askRedis("cluster Redis", () => strict.ping()),
    { code: "CLOUD_UNREACHABLE" },
  );
  await server.start();
  await waitFor("it to be back", () => strict.status === "ready", 10_000);
  assert.equal(await strict.ping(), "PONG");
});
