// control.test: an image's way from `sluice flash` to the programmer, and the words on the way back.
// Path: test. Touches: unix sockets, temporary folders, child processes.

import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { serveControl } from "../../../firmware-bridge/flash/control.ts";
import type { FlasherOptions } from "../../../firmware-bridge/flash/flasher.ts";
import { Sluice, sluice } from "../../broker/cli/sluice-command.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { capturedLog } from "../captured-log.ts";
import { AVRDUDE_BAD, AVRDUDE_GOOD, IMAGE } from "./avrdude-output.ts";
import { flasherOf } from "./stand-in.ts";

const SHA256 = createHash("sha256").update(IMAGE).digest("hex");

async function served(t: TestContext, some: Partial<FlasherOptions> = {}, imageBytesMax = 65_536) {
  const parts = flasherOf(t, some);
  const folder = temporaryFolder(t);
  const path = join(folder, "control.sock");
  const { log } = capturedLog();
  const server = await serveControl({ path, imageBytesMax, flasher: parts.flasher, log });
  t.after(() => server.close());
  const file = join(folder, "image.hex");
  writeFileSync(file, IMAGE);
  const flash = (link: string, ...more: string[]) =>
    sluice(t, "flash", link, file, "--control", path, ...more);
  return { ...parts, path, file, flash };
}

test("flashes, and shows in lines how far it is", async (t) => {
  const { flash, standIn } = await served(t);
  standIn.install("avrdude", AVRDUDE_GOOD, "exit 0");
  const { code, stdout, stderr } = await flash("box");
  assert.equal(stderr, "");
  const [first, ...lines] = stdout.trim().split("\n");
  assert.equal(first, `flashing box: ${IMAGE.length} bytes, SHA-256 ${SHA256}`);
  assert.match(lines.pop() ?? "", /^flashed box in \d+\.\d s$/);
  // How many there are depends on how the output comes.
  assert.ok(lines.includes("writing 100%") && lines.includes("verifying 100%"), stdout);
  assert.equal(code, 0);
  assert.equal(standIn.saw("image"), IMAGE.toString());
});

test("tells each event as JSON when asked to", async (t) => {
  const { flash, standIn } = await served(t);
  standIn.install("avrdude", ["Writing | ", "##"], "exit 0");
  const { code, stdout } = await flash("box", "--json");
  const events = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(events[0], {
    state: "accepted",
    link: "box",
    bytes: IMAGE.length,
    sha256: SHA256,
  });
  assert.equal(events.at(-1).state, "done");
  assert.equal(code, 0);
});

test("ends with 1 and the programmer's own words when it failed", async (t) => {
  const { flash, standIn } = await served(t);
  standIn.install("avrdude", [AVRDUDE_BAD], "exit 1");
  const { code, stderr } = await flash("box");
  assert.match(stderr, /^sluice: flash failed: avrdude ended with code 1: .*unable to open.*\n$/);
  assert.equal(code, 1);
});

test("takes the signature that lies beside the image, or that is named", async (t) => {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const { flash, file, standIn } = await served(t, { key: publicKey });
  standIn.install("avrdude", [], "exit 0");
  const none = await flash("box");
  assert.equal(none.code, 2);
  assert.match(none.stderr, /^sluice: flash refused: the image has no signature/);
  writeFileSync(`${file}.sig`, sign(null, IMAGE, privateKey));
  assert.equal((await flash("box")).code, 0);
  writeFileSync(`${file}.other`, sign(null, Buffer.from("other"), privateKey).toString("base64"));
  const other = await flash("box", "--signature", `${file}.other`);
  assert.equal(other.code, 2);
  assert.match(other.stderr, /the signature is not of this image/);
});

test("ends with 2 when it is refused, and nothing is touched", async (t) => {
  const { flash, file, standIn, lent } = await served(t);
  standIn.install("avrdude", [], "exit 0");
  const cases = [
    [await flash("bix"), /flash refused: no link "bix" has a table \[links\.flash\]/],
    [await flash("../box"), /flash refused: POST .* is none of the requests here/],
    [await sluice(t, "flash", "box", "/nowhere"), /\/nowhere cannot be read: ENOENT/],
    [await sluice(t, "flash", "box"), /the image's file is missing/],
    [await sluice(t, "flash"), /the link is missing/],
    [await flash("box", "more"), /unexpected argument "more"/],
  ] as const;
  for (const [{ code, stderr }, expected] of cases) {
    assert.match(stderr, expected);
    assert.equal(code, 2);
  }
  writeFileSync(file, Buffer.alloc(65_537, ":"));
  const { code, stderr } = await flash("box");
  assert.match(stderr, /the image is larger than image_bytes_max = 65536/);
  assert.equal(code, 2);
  assert.deepEqual(lent, []);
});

test("does not take more than the limit from who does not say how much comes", async (t) => {
  const { path, lent } = await served(t);
  const socket = connect(path);
  t.after(() => socket.destroy());
  let heard = "";
  socket.on("data", (chunk) => {
    heard += chunk;
  });
  // It may be closed on us while we still speak.
  socket.on("error", () => {});
  socket.write("POST /flash/box HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  const chunk = `4000\r\n${"x".repeat(0x4000)}\r\n`;
  for (let count = 0; count < 5; count++) socket.write(chunk);
  await waitFor("the refusal", () => heard.includes("larger than image_bytes_max"));
  await waitFor("the end", () => socket.closed || socket.readableEnded);
  assert.deepEqual(lent, []);
});

test("goes on to the end when who asked has gone", async (t) => {
  const seen: string[] = [];
  const { path, file, standIn, lent } = await served(t, {
    onEvent: ({ state }) => void seen.push(state),
  });
  const go = join(standIn.folder, "go");
  standIn.install("avrdude", ["Writing | #"], `while [ ! -e ${go} ]; do sleep 0.02; done`);
  const running = new Sluice(t, "flash", "box", file, "--control", path);
  await running.said("stdout", /writing \d/);
  running.process.kill("SIGINT");
  await running.ended();
  writeFileSync(go, "");
  await waitFor("the end", () => seen.at(-1) === "done");
  assert.deepEqual(lent, ["kept", "back"]);
});

test("keeps no progress for who does not read, and tells the end all the same", async (t) => {
  const { path, standIn } = await served(t, { secondsMax: 2 });
  standIn.install("avrdude", [], "exec yes 'Writing | ## | 4%\nWriting | ### | 6%'");
  const socket = connect(path);
  t.after(() => socket.destroy());
  socket.write(`POST /flash/box HTTP/1.1\r\nHost: x\r\nContent-Length: ${IMAGE.length}\r\n\r\n`);
  socket.write(IMAGE);
  socket.pause();
  await waitFor("the program", () => standIn.hasRun);
  const isGone = () => !existsSync(`/proc/${standIn.saw("pid").trim()}/cwd`);
  await waitFor("its end", isGone, 10_000);
  let heard = "";
  socket.setEncoding("latin1").on("data", (text) => {
    heard += text;
  });
  socket.resume();
  await waitFor("the end", () => heard.includes('"state":"failed"'), 10_000);
  assert.ok(heard.length < 2 ** 20, `${heard.length} bytes were kept`);
});

test("says what to look at when nobody answers, with code 1", async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, "image.hex");
  writeFileSync(file, IMAGE);
  const none = await sluice(t, "flash", "box", file, "--control", join(folder, "none"));
  assert.match(
    none.stderr,
    /^sluice: no answer from the firmware-bridge at \S+: .*; is the service running, with a \[flash\]/,
  );
  assert.equal(none.code, 1);
});

test("is for its owner and group alone", async (t) => {
  const { path } = await served(t);
  assert.equal((statSync(path).mode & 0o777).toString(8), "660");
});

test("hears of a bridge that ends during a flash", async (t) => {
  const { flasher, flash, standIn } = await served(t);
  standIn.install("avrdude", ["Writing | #"], "exec sleep 60");
  const flashed = flash("box");
  await waitFor("the program", () => standIn.hasRun);
  await flasher.stop();
  const { code, stderr } = await flashed;
  assert.match(stderr, /the firmware-bridge was stopped; flash the device again/);
  assert.equal(code, 1);
});
