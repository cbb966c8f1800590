// topics.test: flashing by MQTT: what is taken, what is answered, what is kept for who comes later.
// Path: test. Touches: temporary folders, child processes.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { FlashEvent } from "#contract/flash";
import { readImage } from "../../../firmware-bridge/flash/images.ts";
import {
  type FlashClient,
  type FlashCommand,
  FlashTopics,
} from "../../../firmware-bridge/flash/topics.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { capturedLog } from "../captured-log.ts";
import { AVRDUDE_GOOD, IMAGE } from "./avrdude-output.ts";
import { flasherOf } from "./stand-in.ts";

const SHA256 = createHash("sha256").update(IMAGE).digest("hex");
const IMAGE_BYTES_MAX = 4_096;

interface Told {
  readonly topic: string;
  readonly event: FlashEvent;
  readonly retain: boolean;
  readonly correlation: string | undefined;
}

/** Flashing by MQTT with a folder that has one signed image; the clock stands still. */
function listening(t: TestContext, read: typeof readImage = readImage) {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, "image.hex"), IMAGE);
  writeFileSync(join(folder, "image.hex.sig"), sign(null, IMAGE, privateKey));
  const told: Told[] = [];
  let handler: (command: FlashCommand) => void = () => assert.fail("nobody listens");
  const client: FlashClient = {
    listen(handle) {
      handler = handle;
    },
    publish({ topic, payload, retain, correlationData }) {
      const correlation = correlationData && Buffer.from(correlationData).toString();
      told.push({ topic, event: JSON.parse(Buffer.from(payload).toString()), retain, correlation });
    },
  };
  const { log } = capturedLog();
  const topics = new FlashTopics({ client, log, nowMs: () => 0 });
  const onEvent = (event: FlashEvent) => topics.tell(event);
  const parts = flasherOf(t, { key: publicKey, onEvent });
  topics.listen(parts.flasher, (wanted) => read(folder, wanted, IMAGE_BYTES_MAX));
  const command = (payload: unknown, some: Partial<FlashCommand> = {}) =>
    handler({
      topic: "sluice/flash/box/set",
      payload: Buffer.from(typeof payload === "string" ? payload : JSON.stringify(payload)),
      retain: false,
      dup: false,
      ...some,
    });
  const ended = () => waitFor("the end", () => told.find(({ retain }) => retain));
  const refusal = async () => {
    const { event } = await waitFor("the refusal", () => told[0]);
    told.length = 0;
    return event.state === "refused" ? event.reason : assert.fail(JSON.stringify(event));
  };
  return { ...parts, folder, told, command, ended, refusal };
}

const GOOD = { file: "image.hex", sha256: SHA256 };

test("flashes a signed file of the folder, and keeps only the end for who comes later", async (t) => {
  const { command, ended, told, standIn } = listening(t);
  standIn.install("avrdude", AVRDUDE_GOOD, "exit 0");
  command(GOOD);
  await ended();
  assert.ok(told.every(({ topic }) => topic === "sluice/flash/box"));
  const states = told.map(({ event, retain }) => `${event.state}${retain ? ", retained" : ""}`);
  // By a clock that stands still there is no second for any progress.
  assert.deepEqual(states, ["accepted", "done, retained"]);
  assert.equal(standIn.saw("image"), IMAGE.toString());
});

test("answers to the response topic, with the correlation data", async (t) => {
  const { command, ended, told, standIn } = listening(t);
  standIn.install("avrdude", [], "exit 0");
  command(GOOD, { responseTopic: "who/asked", correlationData: Buffer.from("7") });
  await ended();
  const answers = told.filter(({ topic }) => topic === "who/asked");
  assert.deepEqual(
    answers.map(({ event, retain, correlation }) => [event.state, retain, correlation]),
    [
      ["accepted", false, "7"],
      ["done", false, "7"],
    ],
  );
});

test("answers on no topic below which the answer could be a command", async (t) => {
  const { command, ended, told, standIn } = listening(t);
  standIn.install("avrdude", [], "exit 0");
  command({}, { responseTopic: "sluice/flash/box/set" });
  command({}, { responseTopic: "serial/box/set" });
  command(GOOD, { responseTopic: "serial/box/set/valve" });
  await ended();
  assert.ok(told.every(({ topic }) => topic === "sluice/flash/box"));
});

test("carries out no retained command, and none that came before", async (t) => {
  const { command, refusal, lent } = listening(t);
  command(GOOD, { retain: true });
  assert.match(await refusal(), /a retained command is not carried out/);
  command(GOOD, { dup: true });
  assert.match(await refusal(), /came twice.* give it again/);
  assert.deepEqual(lent, []);
});

test("reads no file but a signed one of the folder with the SHA-256 that is named", async (t) => {
  const { command, refusal, folder, lent, standIn } = listening(t);
  standIn.install("avrdude", [], "exit 0");
  writeFileSync(join(folder, "unsigned.hex"), IMAGE);
  writeFileSync(join(folder, "large.hex"), Buffer.alloc(IMAGE_BYTES_MAX + 1));
  writeFileSync(join(folder, "forged.hex"), `${IMAGE}\n`);
  writeFileSync(join(folder, "forged.hex.sig"), Buffer.alloc(64));
  symlinkSync("image.hex", join(folder, "link.hex"));
  mkdirSync(join(folder, "folder.hex"));
  execFileSync("mkfifo", [join(folder, "pipe.hex")]);
  const forged = createHash("sha256").update(`${IMAGE}\n`).digest("hex");
  const cases: readonly (readonly [unknown, RegExp])[] = [
    [{ ...GOOD, sha256: "0".repeat(64) }, /image\.hex has the SHA-256 [0-9a-f]{64}$/],
    [{ ...GOOD, sha256: "0" }, /^allowed: \{"file"/],
    [{ file: "image.hex" }, /^allowed: \{"file"/],
    ["image.hex", /^allowed: \{"file"/],
    [`"${"x".repeat(2_000)}"`, /^allowed: \{"file"/],
    [{ ...GOOD, file: "../image.hex" }, /"\.\.\/image\.hex" is no file's name/],
    [{ ...GOOD, file: "/etc/passwd" }, /"\/etc\/passwd" is no file's name/],
    [{ ...GOOD, file: "-x" }, /"-x" is no file's name/],
    [{ ...GOOD, file: "none.hex" }, /none\.hex cannot be read: ENOENT/],
    [{ ...GOOD, file: "link.hex" }, /link\.hex cannot be read: ELOOP/],
    [{ ...GOOD, file: "folder.hex" }, /folder\.hex is no file$/],
    [{ ...GOOD, file: "pipe.hex" }, /pipe\.hex is no file$/],
    [{ ...GOOD, file: "large.hex" }, /large\.hex is larger than 4096 bytes/],
    [{ ...GOOD, file: "unsigned.hex" }, /unsigned\.hex\.sig cannot be read: ENOENT/],
    [{ file: "forged.hex", sha256: forged }, /the signature is not of this image/],
  ];
  for (const [payload, expected] of cases) {
    command(payload);
    assert.match(await refusal(), expected);
  }
  assert.deepEqual(lent, []);
});

test("holds one image for a link, however many commands come at once", async (t) => {
  let reading = 0;
  const { command, ended, told, standIn } = listening(t, (...wanted) => {
    reading += 1;
    return readImage(...wanted);
  });
  standIn.install("avrdude", [], "exit 0");
  for (let n = 0; n < 100; n += 1) command(GOOD);
  await ended();
  assert.equal(reading, 1);
  const refusals = told.filter(({ event }) => event.state === "refused");
  assert.equal(refusals.length, 99);
});

test("tells nothing on the topics of links that are not to be flashed", async (t) => {
  const { command, told } = listening(t);
  command(GOOD, { topic: "sluice/flash/other/set", responseTopic: "who/asked" });
  await waitFor("the answer", () => told.length > 0);
  assert.deepEqual(
    told.map(({ topic, event }) => [topic, event.state]),
    [["who/asked", "refused"]],
  );
});

test("keeps what the last flash came to when a further command is refused", async (t) => {
  const { command, ended, told, standIn } = listening(t);
  standIn.install("avrdude", [], "exit 0");
  command(GOOD);
  await ended();
  command({});
  await waitFor("the refusal", () => told.at(-1)?.event.state === "refused");
  assert.equal(told.at(-1)?.retain, false);
});

test("tells progress at most once a second", () => {
  const { log } = capturedLog();
  const percents: number[] = [];
  let nowMs = 0;
  const client: FlashClient = {
    listen() {},
    publish({ payload }) {
      percents.push(JSON.parse(Buffer.from(payload).toString()).percent);
    },
  };
  const topics = new FlashTopics({ client, log, nowMs: () => nowMs });
  for (const percent of [0, 10, 20, 30, 40, 50]) {
    topics.tell({ state: "progress", link: "box", step: "writing", percent });
    nowMs += 400;
  }
  assert.deepEqual(percents, [0, 30]);
});
