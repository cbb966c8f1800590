// commands.test: what a device promises to those who send it commands.
// Path: test. Touches: loopback ports, pseudo-terminals, child processes, temporary folders.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { connectAsync } from "mqtt";
import { joinProperties, userProperty } from "#contract/properties";
import { CommandJournal } from "../../../firmware-bridge/devices/command-journal.ts";
import { Commands } from "../../../firmware-bridge/devices/commands.ts";
import type { CarryOut, Outcome } from "../../../firmware-bridge/driver.ts";
import { accepts } from "../../../scripts/chain/ready.ts";
import { freePlace, startGateway } from "../../journeys/support/gateway.ts";
import { Pty } from "../../support/pty.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { TestBroker } from "../../support/test-broker.ts";
import { waitFor } from "../../support/wait-for.ts";
import { Bridge, START_MS_MAX } from "../bridge-process.ts";
import { capturedLog } from "../captured-log.ts";
import { AVAILABILITY, changes, connected, done, setUp } from "./setup.ts";

const RESULT = "serial/box/result";
const UNKNOWN = "was under way when the bridge ended; whether the device got it is not known";

/** Keeps what it is to do under way until `finish`. */
function slow() {
  const finished = Promise.withResolvers<Outcome>();
  const begun: string[] = [];
  const carryOut: CarryOut = ({ payload }) => {
    begun.push(Buffer.from(payload).toString());
    return begun.length === 1 ? finished.promise : Promise.resolve({ state: "done" });
  };
  return { begun, carryOut, finish: () => finished.resolve({ state: "done" }) };
}

const states = (broker: TestBroker) =>
  broker.texts(RESULT).map((text) => (JSON.parse(text) as { state: string }).state);

function acknowledgements(broker: TestBroker, cmd: string): number {
  return broker.acknowledged.filter((it) => it.client === "serial-box" && it.packet.cmd === cmd)
    .length;
}

/** Properties that a publisher may send with a command, in wire bytes. */
function asking(responseTopic: string, correlation: string): Uint8Array {
  const wire = (property: number, text: string) => {
    const bytes = Buffer.from(text);
    return Buffer.concat([Buffer.of(property, bytes.length >> 8, bytes.length & 0xff), bytes]);
  };
  return joinProperties([wire(0x08, responseTopic), wire(0x09, correlation)]);
}

for (const qos of [1, 2] as const) {
  test(`carries a command of QoS ${qos} out once, though the connection breaks meanwhile`, async (t) => {
    const { broker, device } = await connected(t);
    const { begun, carryOut, finish } = slow();
    device.online(carryOut);
    await broker.publish("serial/box/set", "first", { qos });
    await broker.publish("serial/box/set", "second", { qos });
    await waitFor("the first", () => begun.length === 1);
    broker.cut();
    await waitFor("the device again", () => acknowledgements(broker, "subscribe") === 2);
    finish();
    // "accepted" comes a second time when its acknowledgement was lost with the connection.
    await waitFor("both results", () => changes(states(broker)).length === 4);
    assert.deepEqual(begun, ["first", "second"]);
    assert.deepEqual(changes(states(broker)), ["accepted", "done", "accepted", "done"]);
  });
}

test("carries a command out once, though the broker dies meanwhile and comes back", async (t) => {
  const { broker, device } = await connected(t);
  const { begun, carryOut, finish } = slow();
  device.online(carryOut);
  await broker.publish("serial/box/set", "first");
  await broker.publish("serial/box/set", "second");
  await waitFor("the first", () => begun.length === 1);
  await broker.stop();
  finish();
  await broker.start();
  await waitFor("both results", () => states(broker).filter((it) => it === "done").length === 2);
  assert.deepEqual(begun, ["first", "second"]);
});

test("carries each command out once through kill -9 of the broker, after which all come as repeats", async (t) => {
  const place = await freePlace(t);
  const broker = `mqtt://127.0.0.1:${place.mqttPort}`;
  const start = async () => {
    const gateway = startGateway(t, place);
    await waitFor("the broker", () => accepts(place.mqttPort), START_MS_MAX);
    return gateway;
  };
  const gateway = await start();
  const { device, host } = setUp(t, { broker });
  const { begun, carryOut, finish } = slow();
  device.online(carryOut);
  const counts = () => host.counts.devices[0];
  await waitFor("the device", () => counts()?.acknowledged, START_MS_MAX);
  const client = await connectAsync(broker, { protocolVersion: 5, reconnectPeriod: 0 });
  t.after(() => client.endAsync(true));
  for (const text of ["1", "2", "3"]) {
    await client.publishAsync("serial/box/set", text, { qos: 1 });
  }
  await waitFor("the first", () => begun.length === 1);
  gateway.child.kill("SIGKILL");
  await gateway.exited;
  await start();
  finish();
  await waitFor("all", () => counts()?.commands.done === 3, START_MS_MAX);
  assert.deepEqual(begun, ["1", "2", "3"]);
});

test("acknowledges a command only when its result is at the broker", async (t) => {
  const { broker, device } = await connected(t);
  const { begun, carryOut, finish } = slow();
  device.online(carryOut);
  await broker.publish("serial/box/set", "x");
  await waitFor("its beginning", () => begun.length === 1 && states(broker).length === 1);
  broker.hold();
  finish();
  await waitFor("the result", () => states(broker).length === 2);
  assert.equal(acknowledgements(broker, "puback"), 0);
  broker.release();
  await waitFor("the acknowledgement", () => acknowledgements(broker, "puback") === 1);
});

test("carries out what comes again but was never begun", async (t) => {
  const { broker, device } = await connected(t);
  await broker.publish("serial/box/set", "early");
  const before = broker.texts(AVAILABILITY).length;
  broker.cut();
  await waitFor("the device again", () => broker.texts(AVAILABILITY).length > before + 1);
  const { begun, carryOut, finish } = slow();
  finish();
  device.online(carryOut);
  await waitFor("the result", () => states(broker).includes("done"));
  assert.deepEqual(begun, ["early"]);
});

test("carries no command out twice through kill -9, and says that its fate is not known", async (t) => {
  const broker = await TestBroker.start(t);
  const settings = `role = "gateway"
    data = "DATA"
    bridge = { broker = "${broker.url}" }
    [[links]]
    path = "PORT"
    device = "box"`;
  const bridge = new Bridge(t, settings);
  const pty = await Pty.open(t);
  await pty.linkAs(bridge.port);
  bridge.start();
  const online = () => broker.texts(AVAILABILITY).at(-1) === "online";
  await waitFor("online", online, START_MS_MAX);
  pty.stall();
  await broker.publish("serial/box/set", "first");
  await broker.publish("serial/box/set", "second");
  await waitFor("the first", () => states(broker).includes("accepted"));
  await bridge.end("SIGKILL");
  await waitFor("the will", () => !online());
  pty.resume();
  bridge.start();
  await waitFor("the second", () => states(broker).includes("done"), START_MS_MAX);
  assert.deepEqual(
    broker.texts(RESULT).map((text) => JSON.parse(text)),
    [
      { command: "set", state: "accepted" },
      { command: "set", state: "failed", reason: UNKNOWN },
      { command: "set", state: "accepted" },
      { command: "set", state: "done" },
    ],
  );
  await waitFor("the device to hear it", () => pty.received.includes("second\n"));
  assert.ok(pty.received.toString().split("first\n").length <= 2, pty.received.toString());
});

test("tells again what became of a command whose acknowledgement was lost with the process", async (t) => {
  const broker = await TestBroker.start(t);
  const data = temporaryFolder(t);
  const first = setUp(t, { broker: broker.url }, { data });
  await waitFor("the device", () => broker.texts(AVAILABILITY).length > 0);
  await broker.publish("serial/box/set", "x");
  await first.devices.stop();
  // As the process would have left it when it was killed behind the result.
  const digest = createHash("sha256").update("serial/box/set\0x").digest("base64url");
  const box = { key: `1 ${digest}`, outcome: { state: "failed", reason: "no such thing" } };
  mkdirSync(join(data, "firmware-bridge"), { recursive: true });
  writeFileSync(join(data, "firmware-bridge/_commands.json"), JSON.stringify({ box: [box] }));
  const { device } = setUp(t, { broker: broker.url }, { data });
  device.online(() => assert.fail("carried out"));
  await waitFor("the result", () => states(broker).length > 0);
  assert.deepEqual(JSON.parse(broker.texts(RESULT)[0] ?? ""), {
    command: "set",
    state: "failed",
    reason: "no such thing",
  });
  await waitFor("the acknowledgement", () => acknowledgements(broker, "puback") === 1);
});

for (const process of ["lives on", "was killed, too"] as const) {
  test(`carries nothing out again that a broker which died had not noted as acknowledged; the bridge ${process}`, async () => {
    let onDisk: unknown;
    const memory = {
      read: async () => structuredClone(onDisk),
      write: async (value: unknown) => {
        onDisk = structuredClone(value);
      },
    };
    const begun: string[] = [];
    const acknowledged: number[] = [];
    const start = () => {
      const journal = new CommandJournal(memory);
      const commands = new Commands({
        ...{ device: "box", base: "serial/box/", journal, log: capturedLog().log },
        target: () => async (command) => {
          begun.push(String(command.payload));
          return { state: "done" };
        },
        say: ({ settled }) => settled?.(),
        acknowledge: (_, packetId) => acknowledged.push(packetId),
      });
      commands.connected(true);
      return { commands, journal };
    };
    const { commands, journal } = start();
    const send = (to: Commands, messageId: number, dup: boolean) => {
      const packet = { cmd: "publish", topic: "serial/box/set", qos: 1, retain: false } as const;
      to.receive({ ...packet, payload: Buffer.from(`${messageId}`), messageId, dup });
      return to.idle();
    };
    for (const packetId of [1, 2, 3]) await send(commands, packetId, false);
    await journal.flush();
    const after = process === "lives on" ? commands : start().commands;
    after.connected(true);
    for (const packetId of [1, 2, 3]) await send(after, packetId, true);
    await send(after, 4, true);
    assert.deepEqual(begun, ["1", "2", "3", "4"]);
    assert.deepEqual(acknowledged, [1, 2, 3, 1, 2, 3, 4]);
  });
}

test("answers on the response topic too, with the correlation data and the id of the cloud", async (t) => {
  const { broker, device } = await connected(t);
  device.online(done);
  await broker.publish("serial/box/set/led", "1", { properties: asking("answers/me", "c-1") });
  await broker.publish("serial/box/set/led", "0", {
    properties: joinProperties([
      asking("answers/me", "\u0001\u0002"),
      userProperty("sluice-command", "1700-0"),
    ]),
    command: "1700-0",
  });
  await waitFor("the answers", () => broker.texts("answers/me").length === 4);
  const answers = broker.received.filter(({ topic }) => topic === "answers/me");
  assert.deepEqual(
    answers.map(({ text, properties }) => [JSON.parse(text), String(properties?.correlationData)]),
    [
      [{ command: "set/led", state: "accepted", id: "c-1" }, "c-1"],
      [{ command: "set/led", state: "done", id: "c-1" }, "c-1"],
      [{ command: "set/led", state: "accepted", id: "1700-0" }, "\u0001\u0002"],
      [{ command: "set/led", state: "done", id: "1700-0" }, "\u0001\u0002"],
    ],
  );
  assert.deepEqual(
    broker.texts(RESULT).map((text) => (JSON.parse(text) as { id: string }).id),
    ["c-1", "c-1", "1700-0", "1700-0"],
  );
});

test("makes no command, reading or document of a result, and says so", async (t) => {
  const { broker, device, captured } = await connected(t);
  device.online(done);
  const topics = [
    "serial/box/set",
    "serial/other/set/led",
    "serial/other/t",
    "sluice/flash/box/set",
    "sluice/device/box",
    "answers/+",
    "answers/#",
  ];
  for (const topic of topics) {
    await broker.publish("serial/box/set", "x", { properties: asking(topic, "c") });
  }
  const isDone = () => states(broker).filter((it) => it === "done").length === topics.length;
  await waitFor("the results", isDone);
  const told = captured.lines.filter(({ msg }) => msg === "response topic not answered");
  assert.equal(told.length, topics.length);
  const isResult = ({ text }: { readonly text: string }) => text.includes('"command":"set"');
  const results = broker.received.filter(isResult).map(({ topic }) => topic);
  assert.deepEqual([...new Set(results)], ["serial/box/result"]);
});

test("fills no log, whoever gives commands that fail", async (t) => {
  const { broker, device, captured } = await connected(t);
  device.online(async () => ({ state: "failed", reason: "no" }));
  const count = 100;
  const topic = `serial/box/set/${"x".repeat(1_000)}`;
  const startedMs = performance.now();
  for (let n = 0; n < count; n += 1) {
    await broker.publish(topic, "1", { properties: asking("sluice/x", "c") });
  }
  const isDone = () => states(broker).filter((it) => it === "failed").length === count;
  await waitFor("the results", isDone, 20_000);
  const secondsMax = Math.ceil((performance.now() - startedMs) / 1_000) + 1;
  const warnings = captured.lines.filter(({ level }) => level === "warn");
  assert.ok(warnings.length >= 2 && warnings.length <= 2 * secondsMax, `${warnings.length} lines`);
  for (const line of warnings) assert.ok(JSON.stringify(line).length < 500);
});

test("goes on when the response topic is refused, and names the right that is missing", async (t) => {
  const rights = [{ publish: ["serial/#", "sluice/device/+"], subscribe: ["#"] }];
  const { broker, device, captured } = await connected(t, {}, { options: { rights } });
  device.online(done);
  await broker.publish("serial/box/set", "x", { properties: asking("elsewhere", "c") });
  await waitFor("the acknowledgement", () => acknowledgements(broker, "puback") === 1);
  const line = captured.lines.find(({ msg }) => msg === "refused by the broker, so dropped");
  assert.match(String(line?.mend), /give client "serial-box" the right to publish elsewhere/);
});

test("refuses commands of QoS 0 beyond those that it can hold, and stays bounded", async (t) => {
  const { broker, device, host, captured } = await connected(t);
  const { begun, carryOut, finish } = slow();
  device.online(carryOut);
  for (let n = 0; n < 100; n += 1) await broker.publish("serial/box/set", "x", { qos: 0 });
  await waitFor("the refusals", () => host.counts.devices[0]?.commands.failed === 83);
  assert.equal(captured.count("warn", "command dropped"), 1);
  finish();
  await waitFor("the others", () => states(broker).filter((it) => it === "done").length === 17);
  assert.equal(begun.length, 17);
});

test("keeps a command of QoS 1 and those behind it, however many of QoS 0 wait", async (t) => {
  const { broker, device, host } = await connected(t);
  const { begun, carryOut, finish } = slow();
  device.online(carryOut);
  for (let n = 0; n < 50; n += 1) await broker.publish("serial/box/set", "0", { qos: 0 });
  for (const text of ["1", "2"]) await broker.publish("serial/box/set", text);
  await waitFor("the refusals", () => host.counts.devices[0]?.commands.failed === 33);
  finish();
  await waitFor("the last", () => begun.at(-1) === "2");
  await waitFor("its acknowledgement", () => acknowledgements(broker, "puback") === 2);
  assert.equal(begun.length, 19);
});

test("does not carry a command out of which it cannot note down that it began", async (t) => {
  const data = temporaryFolder(t);
  writeFileSync(join(data, "firmware-bridge"), "not a folder");
  const { broker, device } = await connected(t, {}, { data });
  device.online(() => assert.fail("carried out"));
  await broker.publish("serial/box/set", "x");
  await waitFor("the result", () => states(broker).length === 1);
  assert.match(broker.texts(RESULT)[0] ?? "", /_commands\.json cannot be written/);
});

test("takes no command for one before it where a broker gives identifiers out again at once", async () => {
  let stored: unknown;
  const memory = {
    read: async () => stored,
    write: async (value: unknown) => {
      stored = value;
    },
  };
  let target: CarryOut | undefined = done;
  const seen: string[] = [];
  const commands = new Commands({
    device: "box",
    base: "serial/box/",
    journal: new CommandJournal(memory),
    log: capturedLog().log,
    target: () => target,
    say: ({ payload, settled }) => {
      seen.push((JSON.parse(Buffer.from(payload).toString()) as { state: string }).state);
      settled?.();
    },
    acknowledge: (cmd) => void seen.push(cmd),
  });
  const packet = { cmd: "publish", topic: "serial/box/set", payload: "toggle", qos: 1 } as const;
  const toggle = (messageId: number, dup: boolean) =>
    commands.receive({ ...packet, dup, retain: false, messageId });
  commands.connected(false);
  for (const messageId of [1, 2]) {
    toggle(messageId, false);
    await commands.idle();
  }
  const once = ["accepted", "done", "puback"];
  assert.deepEqual(seen.splice(0), [...once, ...once]);
  for (const messageId of [1, 2]) {
    target = undefined;
    toggle(messageId, false);
    commands.connected(true);
    target = done;
    toggle(messageId, true);
    await commands.idle();
    assert.deepEqual(seen.splice(0), once, `identifier ${messageId}`);
  }
});

test("knows no command of a session that the broker has forgotten", async (t) => {
  const data = temporaryFolder(t);
  const one = await connected(t, {}, { data });
  one.device.online(done);
  await one.broker.publish("serial/box/set", "same");
  await waitFor("its end", () => acknowledgements(one.broker, "puback") === 1);
  await one.devices.stop();
  const journal = () => readFileSync(join(data, "firmware-bridge/_commands.json"), "utf8");
  assert.match(journal(), /"state":"done"/);
  // Another broker counts anew, and loses its connection before the command is begun.
  const broker = await TestBroker.start(t);
  const { device } = setUp(t, { broker: broker.url }, { data });
  await waitFor("the device", () => broker.texts(AVAILABILITY).length > 0);
  await broker.publish("serial/box/set", "same");
  await waitFor("the journal without it", () => journal() === "{}");
  broker.cut();
  await waitFor("the device again", () => broker.texts(AVAILABILITY).length > 2);
  const { begun, carryOut } = slow();
  device.online(carryOut);
  await waitFor("the command", () => begun.length === 1);
});
