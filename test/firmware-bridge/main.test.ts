// main.test: what the process sluice-firmware-bridge promises, from a port to a broker and back.
// Path: test. Touches: child processes, pseudo-terminals, a loopback port, temporary folders.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connectAsync } from "mqtt";
import { Pty } from "../support/pty.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { TestBroker } from "../support/test-broker.ts";
import { waitFor } from "../support/wait-for.ts";
import { Bridge, MAIN, START_MS_MAX } from "./bridge-process.ts";

/** What a stop may take; after 10 s the process ends as failed. */
const STOP_MS_MAX = 8_000;
const AVAILABILITY = "serial/box/availability";

function settingsFor(broker: TestBroker, bridge = ""): string {
  return `role = "gateway"
    data = "DATA"
    bridge = { broker = "${broker.url}", status = { address = "none" } ${bridge} }
    [[links]]
    path = "PORT"
    device = "box"`;
}

/** A bridge with one port that is plugged in, and up. */
async function running(t: TestContext, settings = "") {
  const broker = await TestBroker.start(t);
  const bridge = new Bridge(t, settingsFor(broker, settings));
  const pty = await Pty.open(t);
  await pty.linkAs(bridge.port);
  bridge.start();
  const is = (availability: string, mostMs = START_MS_MAX) =>
    waitFor(availability, () => broker.texts(AVAILABILITY).at(-1) === availability, mostMs);
  await is("online").catch((fault) => assert.fail(`${fault}\n${bridge.output}`));
  return { broker, bridge, pty, is, lines: () => broker.texts("serial/box/line") };
}

async function retainedAvailability(broker: TestBroker): Promise<string> {
  const client = await connectAsync(broker.url, { protocolVersion: 4 });
  const heard = Promise.withResolvers<string>();
  client.on("message", (_topic, payload, { retain }) => {
    heard.resolve(`${payload}${retain ? ", retained" : ""}`);
  });
  await client.subscribeAsync(AVAILABILITY, { qos: 1 });
  const availability = await heard.promise;
  await client.endAsync(true);
  return availability;
}

test("carries a line from the port to the broker, and a command back", async (t) => {
  const { broker, pty, lines } = await running(t);
  pty.write("temperature 21.5\r\n");
  await waitFor("the line", () => lines().length > 0);
  assert.deepEqual(lines(), ["temperature 21.5"]);
  await broker.publish("serial/box/set", "led on");
  await pty.hears("led on\n");
  await waitFor("the result", () => broker.texts("serial/box/result").length > 1);
  assert.deepEqual(broker.texts("serial/box/result"), [
    '{"command":"set","state":"accepted"}',
    '{"command":"set","state":"done"}',
  ]);
});

test("tells an unplugged port within a second, and goes on when it is back", async (t) => {
  const { broker, bridge, pty, is, lines } = await running(t);
  rmSync(bridge.port);
  await pty.unplug();
  await is("offline", 1_000);
  assert.equal(await retainedAvailability(broker), "offline, retained");
  // By the name that `sluice links` has for it.
  await waitFor("the log", () => /"link":"box",.*"to":"absent",.*"link mode"/.test(bridge.output));
  const next = await Pty.open(t);
  await next.linkAs(bridge.port);
  await is("online", 5_000);
  next.write("back again\n");
  await waitFor("the line", () => lines().includes("back again"));
});

test("loses and reorders no line while the broker restarts", async (t) => {
  const { broker, pty, lines } = await running(t, ", unacknowledged_max = 10");
  let said = 0;
  const speaking = setInterval(() => {
    said += 1;
    pty.write(`line ${said}\n`);
  }, 5);
  t.after(() => clearInterval(speaking));
  for (const some of [50, 200]) {
    await waitFor("some lines", () => lines().length > some);
    await broker.stop();
    // More than the bridge may have unacknowledged: the rest waits in the port.
    const saidBefore = said;
    await waitFor("lines while it is away", () => said > saidBefore + 40);
    await broker.start();
  }
  clearInterval(speaking);
  await waitFor("the last line", () => lines().includes(`line ${said}`), 20_000);
  const expected = Array.from({ length: said }, (_, index) => `line ${index + 1}`);
  assert.deepEqual([...new Set(lines())], expected);
});

test("is offline when it is killed, and carries out what was commanded meanwhile", async (t) => {
  const { broker, bridge, pty, is } = await running(t);
  await bridge.end("SIGKILL");
  await is("offline", 1_000);
  await broker.publish("serial/box/set/led", "1");
  bridge.start();
  await is("online");
  await pty.hears("led=1\n");
});

test("stops on SIGTERM: offline, the port free, code 0", async (t) => {
  const { broker, bridge, pty } = await running(t);
  pty.write("half a li");
  assert.equal(await bridge.end("SIGTERM"), 0, bridge.output);
  assert.equal(broker.texts(AVAILABILITY).at(-1), "offline");
  await waitFor("the client to be gone", () => broker.clients === 0);
  const locked = spawnSync("flock", ["--nonblock", bridge.port, "true"]);
  assert.equal(locked.status, 0);
});

/** Ends with code 0 before systemd or the process itself would cut it short. */
async function stopsInTime(bridge: Bridge): Promise<void> {
  const startedMs = performance.now();
  assert.equal(await bridge.end("SIGTERM"), 0, bridge.output);
  const ms = performance.now() - startedMs;
  assert.ok(ms < STOP_MS_MAX, `took ${Math.round(ms)} ms`);
}

test("stops in time while the broker is away and lines wait for it", async (t) => {
  const { broker, bridge, pty } = await running(t, ", unacknowledged_max = 2");
  await broker.stop();
  for (let n = 0; n < 100; n += 1) pty.write(`line ${n}\n`);
  await waitFor("its end", () => bridge.output.includes("not at the broker"));
  await stopsInTime(bridge);
});

test("stops in time while the broker acknowledges nothing", async (t) => {
  const { broker, bridge, pty, lines } = await running(t, ", unacknowledged_max = 2");
  broker.hold();
  for (let n = 0; n < 100; n += 1) pty.write(`line ${n}\n`);
  await waitFor("lines", () => lines().length === 2);
  await stopsInTime(bridge);
});

test("stops in time while the port takes nothing of a command", async (t) => {
  const { broker, bridge, pty } = await running(t);
  pty.stall();
  await broker.publish("serial/box/set", "x".repeat(100_000));
  await waitFor("it", () => broker.texts("serial/box/result").length > 0);
  await stopsInTime(bridge);
});

test("stops in time with 200 devices, each of which says that it is offline", async (t) => {
  const broker = await TestBroker.start(t);
  const nodes = Array.from({ length: 200 }, (_, n) => `{ id = ${n + 1}, name = "node-${n}" }`);
  const bridge = new Bridge(
    t,
    `${settingsFor(broker)}
    driver = "mysensors"
    mysensors = { nodes = [${nodes.join(", ")}] }`,
  );
  const pty = await Pty.open(t);
  await pty.linkAs(bridge.port);
  bridge.start();
  const count = (text: string) =>
    new Set(
      broker.received
        .filter((it) => it.topic.endsWith("/availability") && it.text === text)
        .map(({ topic }) => topic),
    ).size;
  await waitFor("all of them", () => broker.clients === 202, START_MS_MAX);
  await waitFor("all of them", () => count("offline") === 201, START_MS_MAX);
  const before = broker.received.length;
  await stopsInTime(bridge);
  const documents = broker.received
    .slice(before)
    .filter((it) => it.topic.startsWith("sluice/device/") && it.text.includes("the bridge stops"));
  assert.equal(documents.length, 201);
  await waitFor("the clients to be gone", () => broker.clients === 0);
});

test("tells systemd that it is ready and how many links are up, also without port or broker", {
  skip: spawnSync("socat", ["-V"]).error ? "socat is not installed" : false,
}, async (t) => {
  const broker = await TestBroker.start(t);
  await broker.stop();
  const socket = join(temporaryFolder(t), "notify");
  const receiver = spawn("socat", ["-u", `UNIX-RECV:${socket}`, "STDOUT"]);
  t.after(() => receiver.kill());
  let heard = "";
  receiver.stdout.on("data", (datagrams) => {
    heard += datagrams;
  });
  await waitFor("the receiver", () => existsSync(socket));
  const settings = `${settingsFor(broker)}\n[[links]]\npath = "PORT-2"\n`;
  const bridge = new Bridge(t, settings, { NOTIFY_SOCKET: socket, WATCHDOG_USEC: "200000" });
  bridge.start();
  await waitFor("READY", () => heard.includes("READY=1"), START_MS_MAX);
  await waitFor("the watchdog", () => heard.includes("WATCHDOG=1"));
  await waitFor("the status", () => heard.includes("STATUS=0 of 2 links up"));
  await (await Pty.open(t)).linkAs(bridge.port);
  await waitFor("the status", () => heard.includes("STATUS=1 of 2 links up"));
  assert.equal(await bridge.end("SIGTERM"), 0, bridge.output);
  await waitFor("STOPPING", () => heard.includes("STOPPING=1"));
});

test("keeps what it must know after a restart in the folder that systemd gives it", async (t) => {
  const broker = await TestBroker.start(t);
  const folder = temporaryFolder(t);
  const bridge = new Bridge(t, settingsFor(broker), { STATE_DIRECTORY: folder });
  const pty = await Pty.open(t);
  await pty.linkAs(bridge.port);
  bridge.start();
  await waitFor("online", () => broker.texts(AVAILABILITY).includes("online"), START_MS_MAX);
  await broker.publish("serial/box/set", "led on");
  await waitFor("the journal", () => existsSync(join(folder, "firmware-bridge/_commands.json")));
});

test("ends with 2 and one line when links share a name or a device, or say what is nobody's", async (t) => {
  const head = 'role = "gateway"\n';
  const cases = [
    [
      `${head}[[links]]\npath = "/dev/a/x"\n[[links]]\npath = "/dev/b/x"`,
      /both called "x"; set name\n$/,
    ],
    [
      `${head}[[links]]\npath = "/dev/a"\ndevice = "x"\n[[links]]\npath = "/dev/b"
        driver = "modbus-rtu"
        modbus-rtu = { slaves = [{ address = 1, device = "x", registers = [{ channel = "v", address = 0, type = "uint16" }] }] }`,
      /device "x" is on link x \(\/dev\/a\) and on link b \(\/dev\/b\); give each .*\n$/,
    ],
    [
      `${head}[[links]]\npath = "/dev/x"\ndriver = "mqtt"\nclient_id = "greenhouse"`,
      /^link x \(\/dev\/x\): client_id is of no device of driver "mqtt"; .*\[links\.mqtt\] .*\n$/,
    ],
    [
      `${head}[[links]]\npath = "/dev/x"\ndriver = "modbus-rtu"\nmodel = "SDM120"
        modbus-rtu = { slaves = [{ address = 1, device = "m", registers = [{ channel = "v", address = 0, type = "uint16" }] }] }`,
      /^link x \(\/dev\/x\): model is of no device of driver "modbus-rtu"; .*\[\[links\.devices\]\]\n$/,
    ],
    [
      `${head}bridge = { username = "x", password_file = "/nowhere" }`,
      /^password_file \/nowhere cannot be used/,
    ],
  ] as const;
  for (const [text, expected] of cases) {
    const { config } = new Bridge(t, text);
    const { status, stderr } = spawnSync(process.execPath, [MAIN, "--config", config], {
      encoding: "utf8",
      timeout: START_MS_MAX,
    });
    assert.equal(status, 2);
    assert.match(stderr, expected);
    assert.equal(stderr.trim().split("\n").length, 1);
  }
});

test("never shows a stack trace for a port that cannot be had", async (t) => {
  const broker = await TestBroker.start(t);
  const bridge = new Bridge(t, `${settingsFor(broker)}\n[[links]]\npath = "/dev/null"\n`);
  bridge.start();
  await waitFor(
    "both refusals",
    () => {
      return /is not a serial port/.test(bridge.output) && /is not there/.test(bridge.output);
    },
    START_MS_MAX,
  );
  assert.doesNotMatch(bridge.output, /\n\s+at |"stack"/);
  assert.equal(await bridge.end("SIGTERM"), 0);
});
