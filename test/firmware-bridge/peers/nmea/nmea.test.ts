// nmea.test: the receiver says sound sentences, over and over, until it is silent or unplugged.
// Path: test → [nmea]. Touches: a pseudo-terminal; runs gpsbabel, Python and socat.

import assert from "node:assert/strict";
import { test } from "node:test";
import { waitFor } from "../../../support/wait-for.ts";
import { PeerProcess } from "../peer-process.ts";
import { GpsReceiver } from "./nmea.ts";

const opened = (t: Parameters<typeof PeerProcess.start>[0], path: string) =>
  PeerProcess.start(t, "socat", ["socat", "-u", `FILE:${path},raw,echo=0`, "-"]);

/** NMEA 0183: the XOR of what stands between $ and *, in two hexadecimal digits. */
function isSound(sentence: string): boolean {
  const [, body = "", sum = ""] = /^\$(.*)\*([0-9A-F]{2})$/.exec(sentence) ?? [];
  return Buffer.from(body).reduce((xor, byte) => xor ^ byte, 0) === Number.parseInt(sum, 16);
}

test("says the log's sentences in order, and begins anew after the last", async (t) => {
  const receiver = await GpsReceiver.plugIn(t, { pauseMs: 2 });
  const port = await opened(t, receiver.path);
  const { sentences } = receiver;
  assert.ok(sentences.length > 30 && sentences.every(isSound), sentences.join("\n"));
  await waitFor("all of the log, twice", () => port.lines.length > 2 * sentences.length);
  const said = port.lines.map((line) => line.trim());
  const begin = sentences.indexOf(said.at(1) ?? "");
  const expected = [...sentences, ...sentences].slice(begin, begin + sentences.length);
  assert.deepEqual(said.slice(1, 1 + sentences.length), expected);
});

test("is silent when it is told to, and gone when it is unplugged", async (t) => {
  const receiver = await GpsReceiver.plugIn(t, { pauseMs: 2 });
  const port = await opened(t, receiver.path);
  receiver.fallSilent();
  await waitFor("silence", async () => {
    const before = port.lines.length;
    await new Promise((resolve) => setTimeout(resolve, 100));
    return port.lines.length === before;
  });
  assert.equal(port.isOver, false);
  await receiver.unplug();
  await waitFor("socat ends", () => port.isOver);
});
