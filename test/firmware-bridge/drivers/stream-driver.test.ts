// stream-driver.test: what a codec on a link promises.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Codec } from "../../../firmware-bridge/driver.ts";
import { createDriver } from "../../../firmware-bridge/drivers/drivers.ts";
import { StreamDriver } from "../../../firmware-bridge/drivers/stream-driver.ts";
import { fakeHost, fakeLink } from "../fake-host.ts";
import { linesSettings, linkSettings } from "../link-settings.ts";

const linesDriver = (host: Parameters<typeof createDriver>[1]) =>
  createDriver(linkSettings({ path: "/dev/box" }), host);

test("hands on what a link says, line by line, until it ends", async () => {
  const host = fakeHost();
  await linesDriver(host).run(fakeLink(["on", "e\ntw", "o\nthr"]).link);
  assert.deepEqual(host.known("box").published, ["line=one", "line=two"]);
  assert.equal(host.frames(), 2);
});

test("says of each message when the link gave its end", async () => {
  const host = fakeHost();
  await linesDriver(host).run(fakeLink(["on", "e\ntwo\n"]).link);
  const times = host.known("box").messages.map(({ receivedAtMs }) => receivedAtMs);
  assert.deepEqual(times, [1_001, 1_001]);
});

test("begins anew with each link: half a line of the last one is not continued", async () => {
  const host = fakeHost();
  const driver = linesDriver(host);
  await driver.run(fakeLink(["half"]).link);
  await driver.run(fakeLink(["whole\n"]).link);
  assert.deepEqual(host.known("box").published, ["line=whole"]);
});

test("asks for no more while the device has no room", async () => {
  const host = fakeHost();
  const room = Promise.withResolvers<void>();
  const driver = linesDriver(host);
  host.known("box").publish = () => room.promise;
  let asked = 0;
  const chunks = (async function* () {
    for (; asked < 10; asked += 1) yield { bytes: Buffer.from("line\n"), receivedAtMs: 0 };
  })();
  const ended = driver.run(fakeLink(chunks).link);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(asked, 0);
  room.resolve();
  await ended;
  assert.equal(asked, 10);
});

test("writes commands to the link, and tells which it refuses", async () => {
  const host = fakeHost();
  const { link, written } = fakeLink([]);
  await linesDriver(host).run(link);
  const box = host.known("box");
  assert.deepEqual(await box.command("on"), { state: "done" });
  const refusal = { state: "failed", reason: "a command is one line" };
  assert.deepEqual(await box.command("on\noff"), refusal);
  assert.deepEqual(String(written), "on\n");
});

test("tells the host what it does not understand", async () => {
  const host = fakeHost();
  const lines = linesSettings({ line_bytes_max: 3 });
  const settings = Object.assign(linkSettings({ path: "/dev/box" }), { lines });
  const driver = createDriver(settings, host);
  await driver.run(fakeLink(["too long\nok\n"]).link);
  assert.deepEqual(host.faults, ["a line is longer than 3 bytes"]);
  assert.deepEqual(host.known("box").published, ["line=ok"]);
});

test("describes the device by what is known beforehand, and by what the codec learns", async () => {
  const host = fakeHost();
  const codec: Codec = {
    decode: () => [{ kind: "about", about: { firmware: "2.1" } }],
    encode: () => ({ kind: "refused", reason: "no commands" }),
  };
  const driver = new StreamDriver(() => codec, host, { model: "Box" });
  assert.deepEqual(host.known("box").about, { model: "Box" });
  await driver.run(fakeLink(["x"]).link);
  assert.deepEqual(host.known("box").about, { model: "Box", firmware: "2.1" });
  assert.equal(host.frames(), 0);
});
