// mysensors.test: what a MySensors gateway and its nodes have of the driver.
// Path: test. Touches: a temporary folder.

import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { parse } from "valibot";
import { SluiceError } from "#contract/errors";
import { parseSettings } from "#runtime/settings";
import { MemoryFile } from "../../../../firmware-bridge/devices/memory.ts";
import type { Host } from "../../../../firmware-bridge/driver.ts";
import { driverTables } from "../../../../firmware-bridge/drivers/drivers.ts";
import { mysensors } from "../../../../firmware-bridge/drivers/mysensors/mysensors.ts";
import { temporaryFolder } from "../../../support/temporary-folder.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { capturedLog } from "../../captured-log.ts";
import { fakeHost, fakeLink } from "../../fake-host.ts";
import { LiveLink } from "../../live-link.ts";

const GREETING = "0;255;3;0;2;\n255;255;3;0;20;\n";

/** What the gateway was told beyond the greeting. */
const told = (link: LiveLink) => link.text.replaceAll(GREETING, "");

class Gateway extends LiveLink {
  /** Resolves when it was told this, and nothing else, since it was asked last. */
  async hears(expected: string): Promise<void> {
    await waitFor(expected.trim(), () => told(this) === expected).catch((fault) => {
      assert.fail(`${fault}\nbut was told ${JSON.stringify(told(this))}`);
    });
    this.written.length = 0;
  }
}

function driverOn(settings: Record<string, unknown> = {}, some: Partial<Host> = {}) {
  const host = fakeHost("box", some);
  const driver = mysensors.create(parse(mysensors.settings, settings), host);
  return { host, driver };
}

/** A gateway that is plugged in until the test ends. */
async function running(
  t: TestContext,
  settings: Record<string, unknown> = {},
  some: Partial<Host> = {},
) {
  const { host, driver } = driverOn(settings, some);
  const gateway = new Gateway();
  const ended = driver.run(gateway.link);
  t.after(async () => {
    gateway.unplug();
    await ended;
  });
  await waitFor("the greeting", () => gateway.text === GREETING);
  const say = async (...lines: string[]) => {
    const frames = host.frames() + host.faults.length + lines.length;
    for (const line of lines) gateway.say(`${line}\n`);
    await waitFor(lines.join(), () => host.frames() + host.faults.length >= frames);
  };
  return { host, driver, gateway, ended, say };
}

/** What these lines make of a driver, once they are all heard. */
async function heard(lines: string[], settings: Record<string, unknown> = {}) {
  const { host, driver } = driverOn(settings);
  const { link, written } = fakeLink([lines.map((line) => `${line}\n`).join("")]);
  await driver.run(link);
  return { host, told: Buffer.concat(written).toString().replaceAll(GREETING, "") };
}

test("makes a device of each node, and a channel of each value", async () => {
  const { host } = await heard(
    ["7;1;1;0;0;21.5", "7;2;1;0;2;1", "8;0;1;0;49;55.7;13.0;18", "8;0;1;0;200;new"],
    { nodes: [{ id: 7, name: "greenhouse" }] },
  );
  assert.deepEqual(host.known("greenhouse").published, ["1/temp=21.5", "2/status=1"]);
  assert.equal(host.known("greenhouse").messages[0]?.receivedAtMs, 1_000);
  assert.deepEqual(host.known("box-8").published, ["0/position=55.7;13.0;18", "0/200=new"]);
  assert.equal(host.known("box-8").whyOffline, undefined);
  assert.deepEqual([...host.devices.keys()], ["box", "greenhouse", "box-8"]);
});

test("names devices that it knows before their link is up, and has them online when they speak", async () => {
  const { host } = driverOn({ nodes: [{ id: 7, name: "greenhouse" }] });
  assert.equal(host.known("greenhouse").whyOffline, "not there yet");
  assert.equal(host.known("box").whyOffline, "not there yet");
});

test("learns from presentations what a node is made of", async () => {
  const { host } = await heard([
    ...["7;255;0;0;17;2.3.2", "7;255;3;0;11;Greenhouse", "7;255;3;0;12;1.4"],
    ...["7;1;0;0;6;Outside", "7;2;0;0;3;Pump", "7;3;0;0;33;", "7;255;3;0;0;80"],
  ]);
  const { model, firmware, channels } = host.known("box-7").about;
  assert.deepEqual([model, firmware], ["Greenhouse", "1.4"]);
  const shown = channels?.map(({ name, unit, kind, writable }) => {
    return `${name} ${kind}${unit ? ` ${unit}` : ""}${writable ? " writable" : ""}`;
  });
  assert.deepEqual(shown, [
    ...["1/temp number °C", "2/status boolean writable", "2/watt number W"],
    ...["3/tripped boolean", "3/armed boolean writable", "3/level number dB", "battery number %"],
  ]);
  assert.deepEqual(host.known("box-7").published, ["battery=80"]);
});

test("writes down what a node says of itself a few times a second, however often it says so", async (t) => {
  let writes = 0;
  let last = "";
  const memory = {
    read: async () => undefined,
    write: async (value: unknown) => {
      writes += 1;
      last = JSON.stringify(value);
    },
  };
  const { say, host } = await running(t, {}, { memory });
  for (let n = 0; n < 20; n += 1) {
    await say(...Array.from({ length: 50 }, (_, i) => `7;255;3;0;11;sketch ${n} ${i}`));
  }
  await waitFor("the last name", () => last.includes("sketch 19 49"));
  assert.equal(host.known("box-7").about.model, "sketch 19 49");
  assert.ok(writes < 10, `${writes} writes`);
});

test("asks a node that it does not know to present itself, once", async () => {
  const { told } = await heard(["7;1;1;0;0;1", "7;1;1;0;0;2", "8;255;0;0;17;2.3.2"]);
  assert.equal(told, "7;255;3;0;19;\n");
});

test("answers time, configuration, registration and questions for values", async () => {
  const asked = ["7;255;0;0;17;2.3", "7;255;3;0;1;", "7;255;3;0;6;0", "7;255;3;0;26;2"];
  const values = ["7;1;2;0;0;", "7;1;1;0;0;21.5", "7;1;2;0;0;", "8;255;0;0;17;2", "8;1;2;0;0;"];
  const seconds = 1 - new Date(1_000).getTimezoneOffset() * 60;
  const answers = (unit: string) =>
    `7;255;3;0;1;${seconds}\n7;255;3;0;6;${unit}\n7;255;3;0;27;1\n7;1;1;0;0;21.5\n`;
  assert.equal((await heard([...asked, ...values])).told, answers("M"));
  assert.equal((await heard([...asked, ...values], { metric: false })).told, answers("I"));
});

test("tells nodes the time of this machine's zone", async (t) => {
  const before = process.env.TZ;
  t.after(() => {
    if (before === undefined) delete process.env.TZ;
    else process.env.TZ = before;
  });
  process.env.TZ = "Asia/Kolkata";
  const { told } = await heard(["7;255;0;0;17;2.3", "7;255;3;0;1;"]);
  assert.equal(told, `7;255;3;0;1;${1 + 5.5 * 3_600}\n`);
});

test("greets the gateway again when it was reset, and learns its version", async () => {
  const { host, driver } = driverOn();
  const { link, written } = fakeLink([
    "0;255;3;0;14;Gateway startup complete.\n0;255;3;0;2;2.3.2\n",
  ]);
  await driver.run(link);
  assert.equal(Buffer.concat(written).toString(), `${GREETING}0;255;3;0;19;\n${GREETING}`);
  assert.equal(host.known("box").about.firmware, "2.3.2");
});

test("gives each new node an id of its own, on disk before it is told", async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, "box.json");
  const remembered = async () => JSON.stringify(await memory.read());
  const memory = new MemoryFile(file, capturedLog().log);
  const { gateway, say } = await running(t, { nodes: [{ id: 1, name: "one" }] }, { memory });
  await say("255;255;3;0;3;");
  await gateway.hears("255;255;3;0;4;2\n");
  assert.match(await remembered(), /"id":2\b/);
  await say("255;255;3;0;3;", "255;255;3;0;3;");
  await gateway.hears("255;255;3;0;4;3\n255;255;3;0;4;4\n");
  // Another process, after a kill.
  const next = await running(t, {}, { memory: new MemoryFile(file, capturedLog().log) });
  await next.say("1;255;0;0;17;2.3", "255;255;3;0;3;");
  await next.gateway.hears("255;255;3;0;4;5\n");
});

test("gives no id that it could not write down", async (t) => {
  const memory = {
    read: async () => undefined,
    write: async () => {
      throw new SluiceError("MEMORY_FAILED", "the disk is full");
    },
  };
  const { log, count } = capturedLog();
  const { gateway, say } = await running(t, {}, { memory, log });
  await say("255;255;3;0;3;", "255;255;3;0;3;", "7;255;0;0;17;2.3", "7;255;3;0;6;");
  await gateway.hears("7;255;3;0;6;M\n");
  assert.equal(count("warn", "id given to a new node"), 0);
});

test("gives no more ids than there are, nor any when it is not to", async (t) => {
  const { host, gateway, say } = await running(t);
  await say(...Array.from({ length: 255 }, () => "255;255;3;0;3;"));
  await waitFor("254 ids", () => told(gateway).split("\n").length === 255);
  assert.ok(told(gateway).endsWith(";254\n"));
  assert.deepEqual(host.faults, ["a node wants an id, and all are taken"]);
  const closed = await heard(["255;255;3;0;3;"], { give_ids: false });
  assert.equal(closed.told, "");
  assert.equal(closed.host.faults.length, 1);
});

test("remembers through a restart what nodes are made of", async (t) => {
  const memory = new MemoryFile(join(temporaryFolder(t), "box.json"), capturedLog().log);
  const first = await running(t, {}, { memory });
  await first.say("7;255;3;0;11;Greenhouse", "7;1;0;0;6;Outside");
  await waitFor("the file", async () => JSON.stringify(await memory.read())?.includes("Outside"));
  const { host } = driverOn({}, { memory });
  await waitFor("the node", () => host.devices.get("box-7")?.about.model === "Greenhouse");
  assert.equal(host.known("box-7").about.channels?.[0]?.name, "1/temp");
});

test("has its link fail when a node that it remembers is called as another link's device", async (t) => {
  const first = await running(t);
  const { device, memory } = first.host;
  await first.say("7;1;0;0;6;Outside");
  await waitFor("the note", async () => JSON.stringify(await memory.read())?.includes("Outside"));
  const taken = new SluiceError("SETTINGS_INVALID", 'device "box-7" is on another link');
  const deviceOrNone: typeof device = (name, about) => {
    if (name === "box-7") throw taken;
    return device(name, about);
  };
  const { driver } = driverOn({}, { memory, device: deviceOrNone });
  // Its port may be plugged in much later.
  await new Promise(setImmediate);
  await assert.rejects(driver.run(new Gateway().link), taken);
});

test("carries a command out when the node's acknowledgement says so", async (t) => {
  const { host, gateway, say } = await running(t);
  await say("7;255;0;0;17;2.3.2");
  let isDone = false;
  const outcome = host.known("box-7").command("1", "2/status");
  void outcome.then(() => {
    isDone = true;
  });
  await gateway.hears("7;2;1;1;2;1\n");
  for (const another of ["7;3;1;1;2;1", "7;2;1;1;3;1", "7;2;1;1;2;0", "7;2;1;0;2;1"]) {
    await say(another, "8;255;0;0;17;2.3.2");
    assert.ok(!isDone, another);
  }
  await say("7;2;1;1;2;1");
  assert.deepEqual(await outcome, { state: "done" });
  assert.deepEqual(host.known("box-7").published, ["2/status=1"]);
  await say("7;2;2;0;2;");
  await gateway.hears("7;2;1;0;2;1\n");
});

test("tries a command that is not acknowledged again, then says that it failed", async (t) => {
  const { host, gateway, say } = await running(t, { ack_ms_max: 50, tries_max: 2 });
  await say("7;255;0;0;17;2.3.2");
  const outcome = await host.known("box-7").command("1", "2/status");
  const reason = "the node did not acknowledge it, 2 times";
  assert.deepEqual(outcome, { state: "failed", reason });
  await gateway.hears("7;2;1;1;2;1\n7;2;1;1;2;1\n");
});

test("refuses commands that no node could understand", async (t) => {
  const { host, gateway, say } = await running(t);
  await say("7;255;0;0;17;2.3.2", "0;255;0;0;17;2.3.2");
  const cases = [
    [undefined, "1", /a channel is/],
    ["status", "1", /a channel is/],
    ["1/2/3", "1", /a channel is/],
    ["255/status", "1", /a child is/],
    ["1/light_saber", "1", /no type is called light_saber/],
    ["1/text", "two\nlines", /one line/],
    ["1/text", "x".repeat(26), /longer than 25 bytes/],
    ["inclusion", "1", /of the gateway/],
  ] as const;
  for (const [channel, payload, expected] of cases) {
    const outcome = await host.known("box-7").command(payload, channel);
    assert.match(outcome.state === "failed" ? outcome.reason : "", expected);
  }
  assert.equal((await host.known("box").command("on", "inclusion")).state, "failed");
  assert.equal(told(gateway), "");
});

test("reboots a node, has it presented again, and lets the gateway include new ones", async (t) => {
  const { host, gateway, say } = await running(t);
  await say("7;255;0;0;17;2.3.2", "0;255;0;0;18;2.3.2");
  assert.deepEqual(await host.known("box-7").command("", "reboot"), { state: "done" });
  assert.deepEqual(await host.known("box-7").command("", "presentation"), { state: "done" });
  assert.deepEqual(await host.known("box").command("1", "inclusion"), { state: "done" });
  await gateway.hears("7;255;3;0;13;\n7;255;3;0;19;\n0;255;3;0;5;1\n");
});

test("holds a command for a sleeping node until it wakes", async (t) => {
  const { host, gateway, say } = await running(t, { ack_ms_max: 5_000 });
  await say("7;255;0;0;17;2.3.2", "7;255;3;0;32;1");
  const asleepAtMs = performance.now() + 1;
  await waitFor("it to sleep", () => performance.now() > asleepAtMs);
  const first = host.known("box-7").command("1", "2/status");
  await say("7;1;1;0;0;21");
  assert.equal(told(gateway), "");
  await say("7;255;3;0;33;500");
  await gateway.hears("7;2;1;1;2;1\n");
  await say("7;2;1;1;2;1");
  assert.deepEqual(await first, { state: "done" });
  // About to sleep, it listens for a while.
  await say("7;255;3;0;32;5000");
  const second = host.known("box-7").command("0", "2/status");
  await gateway.hears("7;2;1;1;2;0\n");
  await say("7;2;1;1;2;0");
  assert.deepEqual(await second, { state: "done" });
});

test("takes the heartbeat of a 2.0 node for going to sleep, and not that of a 2.3 node", async (t) => {
  const settings = { ack_ms_max: 50, tries_max: 1, sleep_seconds_max: 1 };
  const { host, say } = await running(t, settings);
  await say("7;255;0;0;17;2.0.0", "8;255;0;0;17;2.3.2", "7;255;3;0;22;9", "8;255;3;0;22;9");
  const listened = performance.now() + 500;
  await waitFor("it to sleep", () => performance.now() > listened);
  const outcomes = await Promise.all(
    ["box-7", "box-8"].map((name) => host.known(name).command("1", "2/status")),
  );
  const reasons = outcomes.map((it) => (it.state === "failed" ? it.reason : ""));
  assert.match(reasons[0] ?? "", /slept for more than 1 s/);
  assert.match(reasons[1] ?? "", /did not acknowledge/);
  assert.deepEqual(host.known("box-7").published, ["heartbeat=9"]);
});

test("lets no command wait for a link that is gone", async (t) => {
  const { host, gateway, ended, say } = await running(t);
  await say("7;255;0;0;17;2.3.2", "8;255;0;0;17;2.3.2", "8;255;3;0;32;0");
  const outcomes = ["box-7", "box-8"].map((name) => host.known(name).command("1", "2/status"));
  gateway.unplug();
  await ended;
  for (const outcome of await Promise.all(outcomes)) {
    assert.deepEqual(outcome, { state: "failed", reason: "the link is gone" });
  }
});

test("counts what it cannot understand, and goes on", async () => {
  const { host } = await heard([
    ...["ets Jan  8 2013", "7;1;1;0;0", "255;1;1;0;0;5", "7;255;1;0;0;5", "x".repeat(600)],
    "7;1;1;0;0;21.5",
  ]);
  assert.deepEqual(host.faults, [
    ...["a line is no message", "a line is no message", "a message of a node without an id"],
    ...["a value of no child", "a line is longer than 512 bytes"],
  ]);
  assert.deepEqual(host.known("box-7").published, ["1/temp=21.5"]);
  assert.equal(host.frames(), 1);
});

test("survives whatever a line may say, and makes no more devices than there are ids", async () => {
  const field = (most: number) => fc.integer({ min: 0, max: most }).map(String);
  const valid = fc
    .tuple(field(255), field(255), field(4), field(1), field(60), fc.string({ maxLength: 30 }))
    .map((fields) => fields.join(";"));
  const lines = fc.array(fc.oneof(valid, fc.string({ maxLength: 40 })), { maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(lines, async (some) => {
      const { host } = await heard(some);
      assert.ok(host.devices.size <= 255);
    }),
    { seed: 5, numRuns: 300 },
  );
});

test("refuses settings that give a node the name of the gateway or of another node", () => {
  for (const name of ["box", "box-8"]) {
    const nodes = [{ id: 7, name }];
    assert.throws(() => driverOn({ nodes }), { code: "SETTINGS_INVALID" });
  }
  assert.doesNotThrow(() => driverOn({ nodes: [{ id: 7, name: "box-7" }] }));
});

test("says where the settings give two nodes one id or one name", () => {
  const node = (id: number, name: string) =>
    `[[links.mysensors.nodes]]\nid = ${id}\nname = "${name}"\n`;
  const link = 'role = "gateway"\n[[links]]\npath = "/dev/x"\ndriver = "mysensors"\n';
  const parse = (nodes: string) => () => parseSettings(link + nodes, "t", driverTables);
  assert.throws(parse(node(7, "a") + node(7, "b")), {
    message: /^t:5: links\[0\]\.mysensors\.nodes .*each id once; 7 is there twice$/,
  });
  assert.throws(parse(node(7, "a") + node(8, "a")), { message: /each name once; "a" is there/ });
});
