// mqtt-over-serial.test: mosquitto's clients, which know nothing of serial ports, work through them.
// Path: mosquitto ─tcp─ cable ─pty─ firmware-bridge ─▶ gateway. Touches: loopback ports,
// pseudo-terminals, child processes, a temporary folder.

import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connectAsync, type MqttClient } from "mqtt";
import { Pty } from "../support/pty.ts";
import { waitFor } from "../support/wait-for.ts";
import { end, START_MS_MAX, startBridge } from "./support/bridge.ts";
import { freePlace, startGateway } from "./support/gateway.ts";

const isMissing = spawnSync("mosquitto_pub", ["--help"]).error !== undefined;
const skip = isMissing ? "mosquitto-clients is not installed" : false;

/** A serial port whose other end is a TCP port: whoever connects there speaks on the line. */
class Cable {
  readonly pty: Pty;
  #socket: Socket | undefined;
  port = 0;

  private constructor(pty: Pty) {
    this.pty = pty;
    pty.onTold((bytes) => this.#socket?.write(bytes));
  }

  static async plugIn(t: TestContext, path: string): Promise<Cable> {
    const cable = new Cable(await Pty.open(t));
    await cable.pty.linkAs(path);
    const server = createServer((socket) => cable.#use(socket)).listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (address && typeof address === "object") cable.port = address.port;
    t.after(() => {
      server.close();
      cable.#socket?.destroy();
    });
    return cable;
  }

  #use(socket: Socket): void {
    this.#socket?.destroy();
    this.#socket = socket;
    socket.on("error", () => {});
    socket.on("data", (bytes) => this.pty.write(bytes));
  }
}

class Client {
  readonly #child: ChildProcess;
  /** Its code. */
  readonly exited: Promise<number | null>;
  output = "";

  constructor(t: TestContext, command: string, { port }: Cable, args: readonly string[]) {
    const all = ["-h", "127.0.0.1", "-p", String(port), "-d", ...args];
    // To a pipe it would write nothing before its end.
    this.#child = spawn("stdbuf", ["-oL", command, ...all], { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on("data", (text) => {
        this.output += text;
      });
    }
    this.exited = once(this.#child, "exit").then(([code]) => code);
    t.after(() => end(this.#child));
  }

  async says(text: string, times = 1, mostMs = START_MS_MAX): Promise<void> {
    const said = () => this.output.split(text).length > times;
    await waitFor(text, said, mostMs).catch((fault) => assert.fail(`${fault}\n${this.output}`));
  }
}

async function running(t: TestContext) {
  const place = await freePlace(t);
  const paths = [join(place.folder, "port-1"), join(place.folder, "port-2")] as const;
  const broker = `mqtt://127.0.0.1:${place.mqttPort}`;
  const links = paths.map((path) => ({ path, driver: "mqtt" }));
  const more = { links, bridge: { broker } };
  const startAgain = () => startBridge(t, join(place.folder, "sluice.toml"), paths.length);
  const start = () => startGateway(t, place, more);
  const gateway = start();
  await waitFor("the gateway", () => gateway.status(), START_MS_MAX);
  const cables = await Promise.all(paths.map((path) => Cable.plugIn(t, path)));
  return { broker, gateway, start, bridge: await startAgain(), startAgain, cables };
}

async function listener(t: TestContext, broker: string, filter: string): Promise<MqttClient> {
  const client = await connectAsync(broker);
  t.after(() => client.endAsync(true));
  await client.subscribeAsync(filter, { qos: 1 });
  return client;
}

test("mosquitto's clients publish and subscribe through serial ports, in each version", {
  skip,
}, async (t) => {
  const { cables } = await running(t);
  const [one, two] = cables;
  assert.ok(one && two);
  for (const version of ["mqttv31", "mqttv311", "mqttv5"]) {
    const options = ["-V", version, "-t", `journey/${version}`];
    const subscriber = new Client(t, "mosquitto_sub", one, [...options, "-q", "1", "-C", "3"]);
    await subscriber.says("SUBACK");
    for (const qos of ["0", "1", "2"]) {
      const text = ["-m", `qos ${qos} by ${version}`];
      const publisher = new Client(t, "mosquitto_pub", two, [...options, "-q", qos, ...text]);
      assert.equal(await publisher.exited, 0, publisher.output);
      await subscriber.says(`qos ${qos} by ${version}`);
    }
    assert.equal(await subscriber.exited, 0, subscriber.output);
  }
});

test("an unplugged device's will is heard within 200 ms", { skip }, async (t) => {
  const { broker, cables } = await running(t);
  const [cable] = cables;
  assert.ok(cable);
  const witness = await listener(t, broker, "journey/will");
  const heard = new Promise<string>((resolve) => {
    witness.on("message", (_topic, payload) => resolve(String(payload)));
  });
  const will = ["--will-topic", "journey/will", "--will-payload", "gone", "--will-qos", "1"];
  const device = new Client(t, "mosquitto_sub", cable, ["-t", "x", ...will]);
  await device.says("SUBACK");
  const startedMs = performance.now();
  await cable.pty.unplug();
  assert.equal(await heard, "gone");
  const tookMs = performance.now() - startedMs;
  assert.ok(tookMs < 200, `${Math.round(tookMs)} ms`);
});

test("a device gets what it had subscribed to through kill -9 of the broker and of the bridge", {
  skip,
}, async (t) => {
  const { broker, gateway, start, bridge, startAgain, cables } = await running(t);
  const [cable] = cables;
  assert.ok(cable);
  const session = ["-i", "device", "-c", "-q", "1", "-k", "5", "-t", "journey/kept"];
  const device = new Client(t, "mosquitto_sub", cable, session);
  await device.says("SUBACK");
  const tell = async (text: string) => {
    const client = await connectAsync(broker);
    await client.publishAsync("journey/kept", text, { qos: 1 });
    await client.endAsync();
  };

  await end(gateway.child);
  const next = start();
  await waitFor("the gateway", () => next.status(), START_MS_MAX);
  await tell("while the broker was killed");
  await device.says("while the broker was killed");

  await end(bridge);
  await tell("while the bridge was killed");
  await startAgain();
  await device.says("while the bridge was killed");
});
