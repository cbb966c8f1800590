// flashing.test: a device is flashed through a whole bridge, as its operator sees it.
// Path: test. Touches: child processes, pseudo-terminals, a loopback port, temporary folders.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { connectAsync } from "mqtt";
import type { FlashEvent } from "#contract/flash";
import type { LinksDocument } from "#contract/links";
import { Sluice, sluice } from "../broker/cli/sluice-command.ts";
import { Pty } from "../support/pty.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { TestBroker } from "../support/test-broker.ts";
import { waitFor } from "../support/wait-for.ts";
import { Bridge, MAIN, START_MS_MAX } from "./bridge-process.ts";
import { AVRDUDE_BAD, AVRDUDE_GOOD, IMAGE } from "./flash/avrdude-output.ts";
import { StandIn } from "./flash/stand-in.ts";
import { sketchHex, Uno } from "./peers/avr/avr.ts";

interface Plugged {
  /** The device node that the link's path leads to. */
  readonly node: string;
  /** Keys of [flash]. */
  readonly flash?: string;
  /** Keys of the link's own table. */
  readonly programmer?: string;
}

const AVRDUDE = 'programmer = "avrdude", part = "m328p", baud_rate = 57600';
const ESPTOOL = 'programmer = "esptool", offset = 0';

/** A bridge whose link "box" is plugged in, and up. */
async function running(t: TestContext, { node, flash = "", programmer = AVRDUDE }: Plugged) {
  const broker = await TestBroker.start(t);
  const standIn = new StandIn(t);
  const bridge = new Bridge(
    t,
    `role = "gateway"
    data = "DATA"
    bridge.broker = "${broker.url}"
    bridge.control = "PORT.control"
    bridge.status.address = "unix:PORT.status"
    flash = { ${flash} }
    [[links]]
    path = "${node}"
    device = "box"
    flash = { ${programmer} }`,
    { PATH: `${standIn.folder}:${process.env.PATH}` },
  );
  bridge.start();
  const linkIs = (state: string) => waitFor(`the link ${state}`, () => seen(state), START_MS_MAX);
  const seen = async (state: string) => {
    const { stdout } = await sluice(t, "links", "--json", "--config", bridge.config);
    const document: LinksDocument | undefined = stdout === "" ? undefined : JSON.parse(stdout);
    return document?.links.find((link) => link.state === state);
  };
  await linkIs("up").catch((fault) => assert.fail(`${fault}\n${bridge.output}`));
  const flashing = (image: string) =>
    new Sluice(t, "flash", "box", image, "--config", bridge.config);
  return { broker, bridge, standIn, linkIs, flashing };
}

/** A pseudo-terminal for a port, and avrdude's stand-in for the programmer. */
async function simulated(t: TestContext, some: Omit<Plugged, "node"> = {}) {
  const pty = await Pty.open(t);
  const parts = await running(t, { node: pty.path, ...some });
  const image = join(temporaryFolder(t), "image.hex");
  writeFileSync(image, IMAGE);
  return { ...parts, pty, image, flash: () => parts.flashing(image) };
}

test("brings a sketch onto an Arduino Uno by avrdude, and hears it speak", async (t) => {
  const uno = await Uno.plugIn(t, { hasBootloader: true, resetsOnOpen: true });
  const { broker, flashing, linkIs } = await running(t, { node: uno.path });
  const { code, stdout, stderr } = await flashing(sketchHex("lines")).ended();
  assert.equal(stderr, "");
  assert.match(stdout, /\nwriting 100%\n(.*\n)*verifying 100%\nflashed box in \d+\.\d s\n$/);
  assert.equal(code, 0);
  await linkIs("up");
  const spoken = () => broker.texts("serial/box/line").some((it) => /^temperature=/.test(it));
  await waitFor("a reading", spoken, 15_000);
});

test("keeps the port for the programmer alone, and goes on with its driver afterwards", async (t) => {
  const { broker, pty, standIn, linkIs, flash } = await simulated(t);
  const go = join(standIn.folder, "go");
  // Of the arguments the eighth is the port.
  const speak = `echo to the boot loader > "$8"; while [ ! -e ${go} ]; do sleep 0.02; done`;
  standIn.install("avrdude", AVRDUDE_GOOD, speak);
  const flashing = flash();
  await pty.hears("to the boot loader");
  await linkIs("lent");
  assert.equal(spawnSync("flock", ["--nonblock", pty.path, "true"]).status, 1);
  await waitFor("offline", () => broker.texts("serial/box/availability").at(-1) === "offline");
  writeFileSync(go, "");
  const { code } = await flashing.ended();
  assert.equal(code, 0);
  await linkIs("up");
  pty.write("new firmware\n");
  await waitFor("a line", () => broker.texts("serial/box/line").includes("new firmware"));
  const told = broker.texts("sluice/flash/box").map((text): FlashEvent => JSON.parse(text));
  assert.equal(told[0]?.state, "accepted");
  assert.equal(told.at(-1)?.state, "done");
});

test("leaves the link failing with the programmer's words, until a flash succeeds", async (t) => {
  const { standIn, linkIs, flash } = await simulated(t);
  standIn.install("avrdude", [AVRDUDE_BAD], "exit 1");
  const failed = await flash().ended();
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /^sluice: flash failed: .*unable to open programmer arduino/);
  const link = await linkIs("failing");
  assert.match(link.why, /^avrdude ended with code 1: .*unable to open programmer arduino/);
  standIn.install("avrdude", AVRDUDE_GOOD, "exit 0");
  assert.equal((await flash().ended()).code, 0);
  await linkIs("up");
});

test("lets a programmer lock the port that does so by itself, and has the lock again", async (t) => {
  const { standIn, linkIs, flash, pty } = await simulated(t, { programmer: ESPTOOL });
  // As pyserial does, by which esptool opens ports.
  const lock = 'flock --nonblock "$4" echo locked >&2 || { echo "could not lock" >&2; exit 1; }';
  standIn.install("esptool", [], lock);
  const { code, stderr } = await flash().ended();
  assert.equal(stderr, "");
  assert.equal(code, 0);
  await linkIs("up");
  assert.equal(spawnSync("flock", ["--nonblock", pty.path, "true"]).status, 1);
  standIn.install("esptool", [], "exit 1");
  assert.equal((await flash().ended()).code, 1);
  await linkIs("failing");
  assert.equal(spawnSync("flock", ["--nonblock", pty.path, "true"]).status, 1);
});

test("ends the programmer when it is stopped, tells who asked, and ends with 0", async (t) => {
  const { bridge, standIn, flash } = await simulated(t);
  standIn.install("avrdude", [], "trap '' TERM; sleep 60 & wait; sleep 60");
  const flashing = flash();
  await waitFor("the program", () => standIn.hasRun, START_MS_MAX);
  assert.equal(await bridge.end("SIGTERM"), 0);
  const { code, stderr } = await flashing.ended();
  assert.match(stderr, /flash failed: avrdude was ended: the firmware-bridge was stopped; flash/);
  assert.equal(code, 1);
  // A process that init has not buried yet has no command line.
  const pid = standIn.saw("pid").trim();
  const { stdout } = spawnSync("cat", [`/proc/${pid}/cmdline`], { encoding: "utf8" });
  assert.equal(stdout, "");
});

test("flashes by MQTT what a folder has and a key has signed, and answers who asked", async (t) => {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const folder = temporaryFolder(t);
  const key = join(folder, "flash.pub");
  writeFileSync(key, publicKey.export({ type: "spki", format: "pem" }));
  writeFileSync(join(folder, "good.hex"), IMAGE);
  writeFileSync(join(folder, "good.hex.sig"), sign(null, IMAGE, privateKey));
  const flash = `mqtt = true, folder = "${folder}", public_key_file = "${key}"`;
  const { broker, standIn, image, flash: byCommand } = await simulated(t, { flash });
  standIn.install("avrdude", AVRDUDE_GOOD, "exit 0");
  const client = await connectAsync(broker.url, { protocolVersion: 5 });
  t.after(() => client.endAsync(true));
  const answers: unknown[] = [];
  client.on("message", (topic, payload, { properties, retain }) => {
    const { state } = JSON.parse(`${payload}`);
    answers.push([topic, state, `${properties?.correlationData ?? ""}`, retain]);
  });
  await client.subscribeAsync("fleet/answers", { qos: 1 });
  const sha256 = createHash("sha256").update(IMAGE).digest("hex");
  await client.publishAsync("sluice/flash/box/set", JSON.stringify({ file: "good.hex", sha256 }), {
    qos: 1,
    properties: { responseTopic: "fleet/answers", correlationData: Buffer.from("7") },
  });
  await waitFor("the end", () => answers.length === 2);
  assert.deepEqual(answers.splice(0), [
    ["fleet/answers", "accepted", "7", false],
    ["fleet/answers", "done", "7", false],
  ]);
  // Who comes later hears how it ended, and nothing else.
  await client.subscribeAsync("sluice/flash/box", { qos: 1 });
  await waitFor("what is retained", () => answers.length > 0);
  assert.deepEqual(answers, [["sluice/flash/box", "done", "", true]]);
  // The file that lies elsewhere has no signature, and the command line needs one, too.
  const { code, stderr } = await byCommand().ended();
  assert.match(stderr, /flash refused: the image has no signature/, image);
  assert.equal(code, 2);
});

test("takes no command by MQTT unless the settings allow it", async (t) => {
  const { broker, standIn, linkIs } = await simulated(t);
  standIn.install("avrdude", AVRDUDE_GOOD, "exit 0");
  await broker.publish("sluice/flash/box/set", JSON.stringify({ file: "x", sha256: "0" }));
  await broker.publish("serial/box/set", "x");
  // What was published behind it has come.
  await waitFor("the other command", () => broker.texts("serial/box/result").length > 0);
  await linkIs("up");
  assert.deepEqual(broker.texts("sluice/flash/box"), []);
  assert.ok(!standIn.hasRun);
});

test("does not begin with a key that cannot be used", (t) => {
  const link = '[[links]]\npath = "/dev/x"\nflash = { programmer = "esptool", offset = 0 }\n';
  const { config } = new Bridge(
    t,
    `role = "gateway"\ndata = "DATA"\nbridge.control = "PORT.control"
    bridge.status.address = "none"\nflash.public_key_file = "/nowhere"\n${link}`,
  );
  const options = { encoding: "utf8", timeout: START_MS_MAX } as const;
  const { status, stderr } = spawnSync(process.execPath, [MAIN, "--config", config], options);
  assert.equal(status, 2);
  assert.match(stderr, /^public_key_file \/nowhere cannot be used: ENOENT[^\n]*\n$/);
  assert.ok(!existsSync(join(dirname(config), "port.control")));
});
