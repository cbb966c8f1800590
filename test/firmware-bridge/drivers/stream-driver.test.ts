// stream-driver.test: what a codec on a link promises.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { CarryOut, Codec, Device, Message } from "../../../firmware-bridge/driver.ts";
import { createDriver } from "../../../firmware-bridge/drivers/drivers.ts";
import { StreamDriver } from "../../../firmware-bridge/drivers/stream-driver.ts";
import { capturedLog } from "../captured-log.ts";
import { linkSettings } from "../link-settings.ts";

function fakeHost() {
  const published: string[] = [];
  let carryOut: CarryOut | undefined;
  const device: Device = {
    publish: async ({ channel, payload }: Message) => {
      published.push(`${channel}=${Buffer.from(payload)}`);
    },
    online: (take) => {
      carryOut = take;
    },
  };
  const host = { name: "box", device: () => device };
  const command = (payload: string) =>
    carryOut?.({ channel: undefined, payload: Buffer.from(payload) });
  return { host, device, published, command };
}

function fakeLink(chunks: readonly string[]) {
  const written: string[] = [];
  const link = {
    path: "/dev/box",
    readable: (async function* () {
      for (const chunk of chunks) yield Buffer.from(chunk);
    })(),
    write: async (bytes: Uint8Array) => void written.push(Buffer.from(bytes).toString()),
  };
  return { link, written };
}

const linesDriver = (host: Parameters<typeof createDriver>[1]) =>
  createDriver(linkSettings({ path: "/dev/box" }), host, capturedLog().log);

test("hands on what a link says, line by line, until it ends", async () => {
  const { host, published } = fakeHost();
  await linesDriver(host).run(fakeLink(["on", "e\ntw", "o\nthr"]).link);
  assert.deepEqual(published, ["line=one", "line=two"]);
});

test("begins anew with each link: half a line of the last one is not continued", async () => {
  const { host, published } = fakeHost();
  const driver = linesDriver(host);
  await driver.run(fakeLink(["half"]).link);
  await driver.run(fakeLink(["whole\n"]).link);
  assert.deepEqual(published, ["line=whole"]);
});

test("asks for no more while the device has no room", async () => {
  const { host, device } = fakeHost();
  const room = Promise.withResolvers<void>();
  device.publish = () => room.promise;
  let asked = 0;
  const chunks = (async function* () {
    for (; asked < 10; asked += 1) yield Buffer.from("line\n");
  })();
  const ended = linesDriver(host).run({ ...fakeLink([]).link, readable: chunks });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(asked, 0);
  room.resolve();
  await ended;
  assert.equal(asked, 10);
});

test("writes commands to the link, and tells which it refuses", async () => {
  const { host, command } = fakeHost();
  const { link, written } = fakeLink([]);
  await linesDriver(host).run(link);
  assert.deepEqual(await command("on"), { state: "done" });
  assert.deepEqual(await command("on\noff"), { state: "failed", reason: "a command is one line" });
  assert.deepEqual(written, ["on\n"]);
});

test("counts what it does not understand, and logs it once a minute at most", async () => {
  const { host } = fakeHost();
  const { log, lines } = capturedLog();
  const codec: Codec = {
    decode: () => [{ kind: "fault", reason: "nonsense" }],
    encode: () => ({ kind: "refused", reason: "never" }),
  };
  let nowMs = 0;
  const driver = new StreamDriver(
    () => codec,
    host,
    log,
    () => nowMs,
  );
  await driver.run(fakeLink(["a", "b", "c"]).link);
  nowMs = 60_000;
  await driver.run(fakeLink(["d"]).link);
  const told = lines.map(({ level, reason, faults }) => [level, reason, faults]);
  assert.deepEqual(told, [
    ["warn", "nonsense", 1],
    ["warn", "nonsense", 4],
  ]);
});
