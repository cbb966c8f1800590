// landing-library.test: what the landing's functions promise to gateways and cloud.
// Path: test. Touches: a real Redis on loopback.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { type TestContext, test } from "node:test";
import {
  type AppendAnswer,
  LANDING_FUNCTIONS,
  landingKeys,
  parseAppendAnswer,
} from "#contract/landing";
import {
  ENTRY_OVERHEAD_BYTES,
  LANDING_LIBRARY,
  LANDING_LIBRARY_VERSION,
  loadLandingLibrary,
} from "../../../broker/ingest/landing-library.ts";
import { startRedis } from "../../support/redis-server.ts";

const { up, pos, down } = landingKeys("gw-001");

/** A Redis with the library, and its functions for the one gateway, answers as text. */
async function startLanding(t: TestContext) {
  const { client } = await startRedis(t);
  await loadLandingLibrary(client);
  const call = (
    name: keyof typeof LANDING_FUNCTIONS,
    keys: string[],
    ...args: (string | number)[]
  ) => client.call("FCALL", LANDING_FUNCTIONS[name], keys.length, ...keys, ...args);
  const lane = "default";
  return {
    client,
    call,
    async append(
      epoch: number,
      prev: number,
      last: number,
      { writer = "w", frame = "f", on = lane } = {},
    ) {
      const reply = await call("append", [up, pos], on, epoch, prev, last, frame, 1, writer);
      return shown(parseAppendAnswer(reply));
    },
    async probe(epoch: number, ...writers: string[]) {
      return shown(parseAppendAnswer(await call("probe", [pos], lane, epoch, "7-0", ...writers)));
    },
    trim: (upToId: string, tailMs: number, bytesMax: number) =>
      call("trim", [up, down, pos], upToId.split("-")[0] ?? "", tailMs, "0-0", bytesMax),
  };
}

function shown(answer: AppendAnswer): string {
  return answer.status === "FULL" ? "FULL" : `${answer.status} ${answer.epoch} ${answer.seq}`;
}

test("the landing holds each sequence of a lane once, whatever is sent", async (t) => {
  const { client, append } = await startLanding(t);
  const epoch = 1_795_390_887_365;

  assert.equal(await append(epoch, 0, 10), `OK ${epoch} 10`);
  assert.equal(await append(epoch, 0, 10), `DUP ${epoch} 10`, "sent again");
  assert.equal(await append(epoch, 4, 9), `DUP ${epoch} 10`, "cut anew, nothing new");
  assert.equal(await append(epoch, 4, 12), `GAP ${epoch} 10`, "cut anew, partly new");
  assert.equal(await append(epoch, 12, 14), `GAP ${epoch} 10`, "a frame is missing before it");
  assert.equal(await append(epoch, 10, 12), `OK ${epoch} 12`);
  assert.equal(await append(epoch, 0, 3, { on: "alarms" }), `OK ${epoch} 3`, "a lane for itself");
  assert.equal(await append(epoch - 1, 12, 14), `FENCED ${epoch} 12`, "an older epoch");
  assert.equal(await append(epoch + 1, 12, 14), `GAP ${epoch + 1} 0`, "a newer epoch begins at 1");
  assert.equal(await append(epoch + 1, 0, 2), `OK ${epoch + 1} 2`);
  assert.equal(await client.xlen(up), 4);
});

test("what a copy of the outbox says under the same numbers is refused, not taken for a repeat", async (t) => {
  const { client, append } = await startLanding(t);
  assert.equal(await append(5, 0, 3, { writer: "one" }), "OK 5 3");
  for (const [prev, last] of [[0, 2] as const, [0, 3] as const, [3, 4] as const, [7, 9] as const]) {
    assert.equal(await append(5, prev, last, { writer: "copy" }), "FENCED 5 3", `${prev}..${last}`);
  }
  assert.equal(await append(5, 3, 4, { writer: "one" }), "OK 5 4");
  assert.equal(await append(6, 0, 1, { writer: "copy" }), "OK 6 1", "an epoch of its own");
  assert.equal(await append(5, 4, 5, { writer: "one" }), "FENCED 6 1", "which fences the other");
  assert.equal(await client.xlen(up), 3);
});

test("a probe takes the lane for who has written it, and for nobody else", async (t) => {
  const { append, probe } = await startLanding(t);
  assert.equal(await probe(5, "one"), "OK 5 0", "nobody has it yet");
  assert.equal(await append(5, 0, 3, { writer: "copy" }), "FENCED 5 0");
  assert.equal(await append(5, 0, 3, { writer: "one" }), "OK 5 3");
  assert.equal(await probe(5, "copy", "older"), "FENCED 5 3");
  assert.equal(await probe(5, "two", "one", "older"), "OK 5 3", "the same box after a restart");
  assert.equal(await append(5, 3, 4, { writer: "one" }), "FENCED 5 3", "what was still under way");
  assert.equal(await append(5, 3, 4, { writer: "two" }), "OK 5 4");
  assert.equal(await probe(6, "copy", "older"), "OK 6 0", "a newer epoch is taken by its probe");
  assert.equal(await probe(5, "two", "one"), "FENCED 6 0");
});

test("an older gateway, which does not say who it is, is served", async (t) => {
  const { client, call, append, probe } = await startLanding(t);
  const older = (...args: (string | number)[]) => call("append", [up, pos], "default", 7, ...args);
  assert.deepEqual(await older(0, 1, "oldest"), ["OK", "7", "1"]);
  assert.deepEqual(await older(1, 2, "old", 1_795_390_887_365), ["OK", "7", "2"]);
  assert.equal(await probe(7), "OK 7 2");
  const entries = await client.xrange(up, "-", "+");
  const [first, second] = entries.map(([, fields]) => fields);
  const [oldestBytes, oldBytes] = [6 + ENTRY_OVERHEAD_BYTES, 3 + ENTRY_OVERHEAD_BYTES];
  const common = ["lane", "default", "epoch", "7", "frame"];
  assert.deepEqual(first, [...common, "oldest", "total", `${oldestBytes}`]);
  const secondOnes = ["total", `${oldestBytes + oldBytes}`, "sent_ms", "1795390887365"];
  assert.deepEqual(second, [...common, "old", ...secondOnes]);
  assert.equal(await probe(7, "now updated"), "OK 7 2");
  assert.equal(await append(7, 2, 3, { writer: "now updated" }), "OK 7 3");
});

test("a probe tells the position, that somebody is there, and which commands are done", async (t) => {
  const { client, append, probe } = await startLanding(t);
  assert.equal(await probe(5, "w"), "OK 5 0");
  await append(5, 0, 3);
  assert.equal(await probe(5, "w"), "OK 5 3");
  assert.equal(await client.hget(pos, "down_cursor"), "7-0");
  assert.ok(Math.abs(Number(await client.hget(pos, "seen_ms")) - Date.now()) < 5_000);
});

test("who is fenced off does not say which commands are done", async (t) => {
  const { client, append, call, probe } = await startLanding(t);
  await append(5, 0, 3);
  await call("probe", [pos], "default", 5, "3-0", "w");
  assert.equal(await probe(4, "w"), "FENCED 5 3");
  assert.equal(await probe(5, "copy"), "FENCED 5 3");
  assert.equal(await client.hget(pos, "down_cursor"), "3-0");
});

test("a gateway that leaves says why, until it is heard again", async (t) => {
  const { client, call, probe } = await startLanding(t);
  await call("leave", [pos], "stopped");
  assert.equal(await client.hget(pos, "left"), "stopped");
  await probe(5);
  assert.equal(await client.hget(pos, "left"), "");
});

test("a command waits only for gateways that exist, and only so many", async (t) => {
  const { client, call } = await startLanding(t);
  const command = () => call("command", [down, pos], "record", 2);
  assert.equal(await command(), "UNKNOWN");
  await client.hset(pos, "seen_ms", 1);
  assert.deepEqual([await command(), await command(), await command()], ["OK", "OK", "FULL"]);
});

const FRAME = "x".repeat(1_000 - ENTRY_OVERHEAD_BYTES);

test("takes no more of one gateway than its budget, and goes on when there is room", async (t) => {
  const { client, append, trim } = await startLanding(t);
  await client.hset(pos, "bytes_max", 10_000);
  for (let last = 1; last <= 10; last += 1) {
    assert.equal(await append(5, last - 1, last, { frame: FRAME }), `OK 5 ${last}`);
  }
  assert.equal(await append(5, 10, 11, { frame: FRAME }), "FULL");
  assert.equal(await append(5, 9, 10, { frame: FRAME }), "DUP 5 10", "what it has, it says");
  assert.equal(await append(5, 12, 13, { frame: FRAME }), "GAP 5 10");
  assert.equal(await client.xlen(up), 10);
  assert.equal(await trim("0-0", 0, 10_000), "10000", "the cloud has taken nothing yet");
  assert.equal(await append(5, 10, 11, { frame: FRAME }), "FULL");
  const later = Date.now() + 60_000;
  assert.equal(await trim(`${later}-0`, -60_000, 10_000), "0", "the cloud has taken all");
  assert.equal(await append(5, 10, 11, { frame: FRAME }), "OK 5 11");
  assert.equal(await client.hget(pos, "bytes"), "11000");
  assert.equal(await client.hget(pos, "trimmed"), "10000");
});

test("takes what is larger than the budget when nothing else lies there", async (t) => {
  const { client, append } = await startLanding(t);
  await client.hset(pos, "bytes_max", 500);
  assert.equal(await append(5, 0, 1, { frame: FRAME }), "OK 5 1");
  assert.equal(await append(5, 1, 2, { frame: "small" }), "FULL");
});

test("counts as held what the trim leaves", async (t) => {
  const { client, trim } = await startLanding(t);
  const sizes = [100, 200, 300];
  let total = 0;
  for (const [index, size] of sizes.entries()) {
    total += size;
    const frame = "x".repeat(size - ENTRY_OVERHEAD_BYTES);
    await client.xadd(up, `${index + 1}-0`, "lane", "default", "frame", frame, "total", total);
  }
  await client.hset(pos, "bytes", total);
  assert.equal(await trim("1-0", 0, 1_000_000), "600");
  assert.equal(await trim("2-0", 0, 1_000_000), "500", "the last that was taken stays");
  assert.equal(await client.hget(pos, "bytes_max"), "1000000");
  assert.equal(await trim("3-0", 1e15, 1_000_000), "500", "kept for its time");
  assert.equal(await trim("3-0", 0, 1_000_000), "300");
  await client.del(up);
  assert.equal(await trim("3-0", 0, 1_000_000), "0");
});

test("what is kept for its time gives way beyond half the budget, what was not taken in never", async (t) => {
  const { client, trim } = await startLanding(t);
  const now = Date.now();
  const ids = Array.from({ length: 100 }, (_, index) => now - 100_000 + index * 1_000);
  for (const [index, ms] of ids.entries()) {
    await client.xadd(
      up,
      `${ms}-0`,
      "lane",
      "default",
      "frame",
      FRAME,
      "total",
      (index + 1) * 1_000,
    );
  }
  await client.hset(pos, "bytes", 100_000);
  const tailMs = 600_000;
  assert.equal(await trim(`${ids[99]}-0`, tailMs, 1_000_000), "100000", "half is not reached");
  const held = Number(await trim(`${ids[99]}-0`, tailMs, 100_000));
  assert.ok(held <= 52_000 && held >= 48_000, `${held}`);
  assert.equal(await trim("0-0", tailMs, 10_000), `${held}`, "nothing of it was taken in");
  await trim(`${ids[99]}-0`, tailMs, 10_000);
  assert.ok((await client.xlen(up)) >= 1);
});

test("when Redis is out of memory, appends are refused and all that helps goes on", async (t) => {
  const { client, append, call, probe, trim } = await startLanding(t);
  await client.config("SET", "maxmemory-policy", "noeviction");
  await append(5, 0, 1);
  await client.config("SET", "maxmemory", "1mb");
  await assert.rejects(append(5, 1, 2), /^ReplyError: OOM /);
  assert.equal(await probe(5, "w"), "OK 5 1");
  assert.equal(await trim("0-0", 0, 1_000_000), String(1 + ENTRY_OVERHEAD_BYTES));
  assert.equal(await call("leave", [pos], "stopped"), "OK");
});

test("loads the library once, in place of an older one, and never of a newer one", async (t) => {
  const { client } = await startRedis(t);
  const older = "#!lua name=sluice\nredis.register_function('sluice_old', function() return 1 end)";
  await client.call("FUNCTION", "LOAD", older);
  await loadLandingLibrary(client);
  await loadLandingLibrary(client);
  await assert.rejects(client.call("FCALL", "sluice_old", 0), /not found/i);
  const newer = LANDING_LIBRARY.replace(/local VERSION = \d+/, "local VERSION = 999999");
  await client.call("FUNCTION", "LOAD", "REPLACE", newer);
  await loadLandingLibrary(client);
  const listed = JSON.stringify(await client.call("FUNCTION", "LIST", "WITHCODE"));
  assert.match(listed, /VERSION = 999999/);
});

test("several brokers may load it at once", async (t) => {
  const { client } = await startRedis(t);
  await Promise.all(Array.from({ length: 5 }, () => loadLandingLibrary(client)));
  assert.equal(await client.call("FCALL", LANDING_FUNCTIONS.leave, 1, pos, "x"), "OK");
});

test("a library that has changed has another version", () => {
  const code = LANDING_LIBRARY.replace(/local VERSION = \d+/, "");
  const digest = createHash("sha256").update(code).digest("hex").slice(0, 16);
  assert.deepEqual(
    { version: LANDING_LIBRARY_VERSION, digest },
    { version: 2, digest: "b539cba855c88eb7" },
  );
});
