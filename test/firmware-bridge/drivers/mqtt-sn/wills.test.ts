// wills.test: what is kept of the wills of clients whose sessions stay.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { SluiceError } from "#contract/errors";
import { Wills } from "../../../../firmware-bridge/drivers/mqtt-sn/wills.ts";
import { capturedLog } from "../../captured-log.ts";

const WILL = { topic: "a/b", payload: Buffer.from([0, 255]), qos: 1, retain: true } as const;

function memory(remembered?: unknown) {
  const written: unknown[] = [];
  const read = async () => (written.length > 0 ? written.at(-1) : remembered);
  const write = async (value: unknown) => void written.push(value);
  return { read, write, written };
}

function willsOf(some: ReturnType<typeof memory>, countMax = 2): Wills {
  return new Wills(some, countMax, capturedLog().log);
}

test("keeps wills over a restart, the newest when there are too many", async () => {
  const some = memory();
  const first = willsOf(some);
  for (const clientId of ["a", "b", "c"]) await first.set(clientId, WILL);
  await first.set("b", undefined);
  const second = willsOf(some);
  assert.equal(await second.of("a"), undefined);
  assert.equal(await second.of("b"), undefined);
  assert.deepEqual(await second.of("c"), WILL);
});

test("writes only what is new", async () => {
  const some = memory();
  const wills = willsOf(some);
  await wills.set("a", undefined);
  await wills.set("a", WILL);
  await wills.set("a", { ...WILL, payload: Buffer.from(WILL.payload) });
  assert.equal(some.written.length, 1);
  await wills.set("a", { ...WILL, payload: Buffer.from("new") });
  assert.equal(some.written.length, 2);
});

test("begins anew with a memory that is none, and goes on when it cannot be written", async () => {
  const some = memory([{ clientId: 1 }]);
  const { log, count } = capturedLog();
  const write = async () => {
    throw new SluiceError("MEMORY_FAILED", "disk full");
  };
  const wills = new Wills({ ...some, write }, 2, log);
  assert.equal(await wills.of("a"), undefined);
  await wills.set("a", WILL);
  assert.deepEqual(await wills.of("a"), WILL);
  assert.equal(count("warn", "wills are kept until a restart only"), 1);
});
