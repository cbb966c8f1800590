import assert from "node:assert/strict";
import { test } from "node:test";
import { LANDING_FUNCTIONS, landingKeys, parseAppendAnswer } from "#contract/landing";
import { loadLandingLibrary } from "../../../broker/ingest/landing-library.ts";
import { startRedis } from "../../support/redis-server.ts";

test("the landing holds each sequence of a lane once, whatever is sent", async (t) => {
  const { client } = await startRedis(t);
  await loadLandingLibrary(client);
  const { up, pos } = landingKeys("gw-001");
  const append = async (epoch: number, prev: number, last: number, lane = "default") => {
    const args = [LANDING_FUNCTIONS.append, 2, up, pos, lane, epoch, prev, last, `${prev}-${last}`];
    const { status, seq } = parseAppendAnswer(await client.call("FCALL", ...args));
    return `${status} ${seq}`;
  };
  const epoch = 1_795_390_887_365;

  assert.equal(await append(epoch, 0, 10), "OK 10");
  assert.equal(await append(epoch, 0, 10), "DUP 10", "sent again");
  assert.equal(await append(epoch, 4, 9), "DUP 10", "cut anew, nothing new");
  assert.equal(await append(epoch, 4, 12), "GAP 10", "cut anew, partly new");
  assert.equal(await append(epoch, 12, 14), "GAP 10", "a frame is missing before it");
  assert.equal(await append(epoch, 10, 12), "OK 12");
  assert.equal(await append(epoch, 0, 3, "alarms"), "OK 3", "each lane counts for itself");
  assert.equal(await append(epoch - 1, 12, 14), "FENCED 12", "an older epoch");
  assert.equal(await append(epoch + 1, 12, 14), "GAP 0", "a newer epoch begins at 1");
  assert.equal(await append(epoch + 1, 0, 2), "OK 2");
  assert.equal(await client.xlen(up), 4);
});

test("keeps when a frame was sent, if the gateway tells", async (t) => {
  const { client } = await startRedis(t);
  await loadLandingLibrary(client);
  const { up, pos } = landingKeys("gw-001");
  const append = (...args: (string | number)[]) =>
    client.call("FCALL", LANDING_FUNCTIONS.append, 2, up, pos, "default", 7, ...args);
  assert.deepEqual(await append(0, 1, "older"), ["OK", "7", "1"]);
  assert.deepEqual(await append(1, 2, "newer", 1_795_390_887_365), ["OK", "7", "2"]);
  const entries = await client.xrange(up, "-", "+");
  const older = ["lane", "default", "epoch", "7", "frame", "older"];
  const newer = ["lane", "default", "epoch", "7", "frame", "newer", "sent_ms", "1795390887365"];
  assert.deepEqual(
    entries.map(([, fields]) => fields),
    [older, newer],
  );
});

test("a probe tells the position, that somebody is there, and which commands are done", async (t) => {
  const { client } = await startRedis(t);
  await loadLandingLibrary(client);
  const { up, pos } = landingKeys("gw-001");
  const probe = (epoch: number) =>
    client.call("FCALL", LANDING_FUNCTIONS.probe, 1, pos, "default", epoch, "7-0");
  assert.deepEqual(await probe(5), ["OK", "5", "0"]);
  await client.call("FCALL", LANDING_FUNCTIONS.append, 2, up, pos, "default", 5, 0, 3, "x");
  assert.deepEqual(await probe(5), ["OK", "5", "3"]);
  assert.deepEqual(await probe(4), ["FENCED", "5", "3"]);
  assert.equal(await client.hget(pos, "down_cursor"), "7-0");
  assert.ok(Math.abs(Number(await client.hget(pos, "seen_ms")) - Date.now()) < 5_000);
});

test("a gateway that leaves says why, until it is heard again", async (t) => {
  const { client } = await startRedis(t);
  await loadLandingLibrary(client);
  const { pos } = landingKeys("gw-001");
  await client.call("FCALL", LANDING_FUNCTIONS.leave, 1, pos, "stopped");
  assert.equal(await client.hget(pos, "left"), "stopped");
  await client.call("FCALL", LANDING_FUNCTIONS.probe, 1, pos, "default", 5, "0-0");
  assert.equal(await client.hget(pos, "left"), "");
});

test("a command waits only for gateways that exist, and only so many", async (t) => {
  const { client } = await startRedis(t);
  await loadLandingLibrary(client);
  const { down, pos } = landingKeys("gw-001");
  const command = () => client.call("FCALL", LANDING_FUNCTIONS.command, 2, down, pos, "record", 2);
  assert.equal(await command(), "UNKNOWN");
  await client.hset(pos, "seen_ms", 1);
  assert.deepEqual([await command(), await command(), await command()], ["OK", "OK", "FULL"]);
});

test("loads the library once, and in place of an older one", async (t) => {
  const { client } = await startRedis(t);
  const older = "#!lua name=sluice\nredis.register_function('sluice_old', function() return 1 end)";
  await client.call("FUNCTION", "LOAD", older);
  await loadLandingLibrary(client);
  await loadLandingLibrary(client);
  await assert.rejects(client.call("FCALL", "sluice_old", 0), /not found/i);
});
