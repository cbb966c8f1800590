import assert from "node:assert/strict";
import { type EventEmitter, once } from "node:events";
import { connect as connectTcp } from "node:net";
import { type TestContext, test } from "node:test";
import { connect as connectMqtt, type IClientOptions, type MqttClient } from "mqtt";
import { pino } from "pino";
import * as v from "valibot";
import { SluiceError } from "#contract/errors";
import type { Custody, Taken, Taking } from "#contract/session";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { SettingsSchema } from "#runtime/settings-schema";
import { Mqtt, type MqttOptions } from "../../../broker/mqtt/mqtt.ts";
import { Store } from "../../../broker/store/store.ts";
import { proxyHeader } from "../../support/proxy-header.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { waitFor } from "../../support/wait-for.ts";

interface Started {
  readonly mqtt: Mqtt;
  readonly metrics: Metrics;
  readonly port: number;
  stop(): Promise<void>;
  connect(options?: IClientOptions): Promise<MqttClient>;
}

async function startBroker(
  t: TestContext,
  options: Partial<MqttOptions> & {
    limits?: object;
    rights?: object[];
    folder?: string;
    /** A balancer is in front of it. */
    proxy?: boolean;
    take?: (taking: Taking) => Promise<void>;
    /** Is awaited before a session is saved in the store. */
    saving?: () => Promise<void>;
    /** Is awaited before a session is removed from the store. */
    removing?: () => Promise<void>;
  } = {},
): Promise<Started> {
  const store = await Store.open(options.folder ?? temporaryFolder(t));
  const sessions = await store.sessions();
  const settings = v.parse(SettingsSchema, {
    role: "gateway",
    name: "gw-001",
    listeners: [{ protocol: "mqtt", address: "127.0.0.1:0", proxy: options.proxy ?? false }],
    limits: options.limits ?? {},
    access: { rights: options.rights ?? [] },
  });
  const keep = (taking: Taking) => store.take(undefined, sessions.write(taking));
  const custody: Custody = {
    take: (taking) => (options.take ?? keep)(taking)?.then((): Taken => "taken"),
    queue: (message, queues) => keep({ message: { ...message, retain: false }, queues }),
  };
  const metrics = new Metrics();
  const log = createLog({ level: "error", process: "test" });
  const mqtt = await Mqtt.start({
    settings,
    brokerId: "gw-001",
    store: {
      sessions: () => sessions.sessions(),
      retained: () => sessions.retained(),
      load: (clientId) => sessions.load(clientId),
      async save(session) {
        await options.saving?.();
        await sessions.save(session);
      },
      queue: (clientId) => sessions.queue(clientId),
      async remove(clientId) {
        await options.removing?.();
        await sessions.remove(clientId);
      },
    },
    custody,
    unavailable: () => undefined,
    log,
    metrics,
    ...options,
  });
  const clients: MqttClient[] = [];
  let stopping: Promise<void> | undefined;
  const stop = async () => {
    for (const client of clients) client.end(true);
    await mqtt.close();
    await store.close();
  };
  t.after(() => {
    stopping ??= stop();
    return stopping;
  });
  const port = Number(new URL(mqtt.addresses[0] ?? "").port);
  return {
    mqtt,
    metrics,
    port,
    stop() {
      stopping ??= stop();
      return stopping;
    },
    async connect(more = {}) {
      const common = { protocolVersion: 4, reconnectPeriod: 0 } as const;
      const client = connectMqtt(`mqtt://127.0.0.1:${port}`, { ...common, ...more });
      const inbox: string[] = [];
      inboxes.set(client, inbox);
      client.on("message", (topic, payload) => inbox.push(`${topic} ${payload.toString()}`));
      const failed = once(client as unknown as EventEmitter, "error").then(([fault]) =>
        Promise.reject(fault),
      );
      await Promise.race([once(client as unknown as EventEmitter, "connect"), failed]);
      failed.catch(() => {});
      client.on("error", () => {});
      clients.push(client);
      return client;
    },
  };
}

const inboxes = new WeakMap<MqttClient, string[]>();

/** What a client has received, and will, since it connected. */
function received(client: MqttClient): string[] {
  return inboxes.get(client) ?? [];
}

/** Publishes at QoS 1 what the broker must answer by ending the connection, and nothing else. */
async function endsWithoutAcknowledgement(
  client: MqttClient,
  topic: string,
  payload: string | Buffer,
  retain = false,
): Promise<void> {
  let isAcknowledged = false;
  const closed = new Promise<void>((resolve) => client.once("close", resolve));
  client.publish(topic, payload, { qos: 1, retain }, (fault) => {
    isAcknowledged = !fault;
  });
  await closed;
  assert.equal(isAcknowledged, false);
}

test("acknowledges only what custody has taken", async (t) => {
  const taken = Promise.withResolvers<void>();
  const asked: string[] = [];
  const take = async ({ message }: Taking) => {
    asked.push(message.topic);
    await taken.promise;
  };
  const { connect } = await startBroker(t, { take });
  const client = await connect();
  let isAcknowledged = false;
  const publishing = client.publishAsync("a", "1", { qos: 1 }).then(() => {
    isAcknowledged = true;
  });
  await waitFor("custody to be asked", () => asked.length === 1);
  const other = await connect();
  await other.subscribeAsync("other");
  assert.equal(isAcknowledged, false);
  taken.resolve();
  await publishing;
});

test("does not acknowledge what custody refuses, and keeps it from subscribers", async (t) => {
  const take = async ({ message }: Taking) => {
    if (message.topic === "full") throw new SluiceError("OUTBOX_FULL", "full");
  };
  const { connect, metrics } = await startBroker(t, { take });
  const [publisher, subscriber] = [await connect(), await connect()];
  await subscriber.subscribeAsync("#");
  const all = received(subscriber);
  await endsWithoutAcknowledgement(publisher, "full", "1");
  const other = await connect();
  await other.publishAsync("end", "", { qos: 1 });
  await waitFor("the last message", () => all.length > 0);
  assert.deepEqual(all, ["end "]);
  assert.equal(metrics.total("sluice_publishes_refused_total"), 1);
});

test("delivers one publisher's messages in order, retained and plain alternating, with an offline session beside it", async (t) => {
  const { connect } = await startBroker(t);
  const offline = await connect({ clean: false, clientId: "offline" });
  await offline.subscribeAsync("t/even", { qos: 1 });
  await offline.endAsync();
  const subscriber = await connect();
  await subscriber.subscribeAsync("t/#", { qos: 1 });
  const all = received(subscriber);
  const publisher = await connect();
  const expected: string[] = [];
  for (let number = 0; number < 1_000; number += 1) {
    const topic = number % 2 === 0 ? "t/even" : "t/odd";
    expected.push(`${topic} ${number}`);
    publisher.publish(topic, String(number), { qos: 1, retain: number % 3 === 0 });
  }
  await waitFor("all of them", () => all.length >= expected.length);
  assert.deepEqual(all, expected);
});

test("a session that returns gets its queue first, then what is live, in order and once", async (t) => {
  const { connect } = await startBroker(t);
  const options = { clean: false, clientId: "returning" } as const;
  const before = await connect(options);
  await before.subscribeAsync("t", { qos: 1 });
  await before.endAsync();
  const publisher = await connect();
  const publish = (from: number, to: number) =>
    Promise.all(
      Array.from({ length: to - from + 1 }, (_, index) =>
        publisher.publishAsync("t", String(from + index), { qos: 1 }),
      ),
    );
  await publish(1, 500);
  const live = publish(501, 1_000);
  const all: number[] = [];
  const after = await connect({ ...options, manualConnect: false });
  after.on("message", (_topic, payload) => all.push(Number(payload)));
  await live;
  await waitFor("all of them", () => all.at(-1) === 1_000, 10_000);
  const missedByTheListener = 1_000 - all.length;
  assert.deepEqual(
    all,
    Array.from({ length: all.length }, (_, index) => index + 1 + missedByTheListener),
  );
});

test("a kept session that falls behind is sent what waits on disk, in order and once", async (t) => {
  const { connect, metrics } = await startBroker(t, { limits: { inflight_messages_max: 5 } });
  const subscriber = await connect({ clean: false, clientId: "behind" });
  await subscriber.subscribeAsync("t", { qos: 1 });
  const publisher = await connect();
  const numbers = Array.from({ length: 2_000 }, (_, index) => `t ${index + 1}`);
  await Promise.all(numbers.map((it) => publisher.publishAsync("t", it.slice(2), { qos: 1 })));
  const all = received(subscriber);
  await waitFor("all of them", () => all.length >= numbers.length, 15_000);
  assert.deepEqual(all, numbers);
  assert.equal(metrics.total("sluice_messages_dropped_total"), 0);
});

test("a filter with a wildcard at the front gets no $-topics, live or retained [MQTT-4.7.2-1]", async (t) => {
  const { connect, mqtt } = await startBroker(t);
  const sys = { topic: "$SYS/broker/x", payload: Buffer.from("1"), qos: 0, retain: true } as const;
  await mqtt.publish({ ...sys, takenAtMs: 0 });
  const [curious, asking] = [await connect(), await connect()];
  const [all, asked] = [received(curious), received(asking)];
  await curious.subscribeAsync("#");
  await asking.subscribeAsync("$SYS/broker/#");
  await waitFor("the retained one", () => asked.length === 1);
  await curious.publishAsync("end", "", { qos: 0 });
  await waitFor("the last message", () => all.length > 0);
  assert.deepEqual(all, ["end "]);
});

test("a client can neither speak on $SYS nor hear what brokers say there to each other", async (t) => {
  const { connect } = await startBroker(t);
  const [spy, forger] = [await connect(), await connect()];
  const all = received(spy);
  await spy.subscribeAsync("$SYS/#");
  await connect({ clientId: "newcomer" });
  await endsWithoutAcknowledgement(forger, "$SYS/x/new/clients", "newcomer");
  await spy.subscribeAsync("end");
  assert.deepEqual(all, []);
});

test("a subscriber that does not read delays no one else", async (t) => {
  const { connect, port, metrics } = await startBroker(t);
  const frozen = connectTcp(port, "127.0.0.1");
  t.after(() => frozen.destroy());
  // CONNECT as "z", then SUBSCRIBE to big/# at QoS 0; nothing is ever read.
  frozen.write(Buffer.from("100d00044d5154540402000000017a", "hex"));
  frozen.write(Buffer.from("820a000100056269672f2300", "hex"));
  frozen.pause();
  const [flood, subscriber] = [await connect(), await connect()];
  await subscriber.subscribeAsync("small", { qos: 1 });
  const all = received(subscriber);
  const payload = Buffer.alloc(60_000);
  for (let number = 0; number < 400; number += 1) {
    await flood.publishAsync("big/x", payload, { qos: 1 });
  }
  await flood.publishAsync("small", "now", { qos: 1 });
  await waitFor("the small message", () => all.length === 1, 1_000);
  assert.ok(metrics.total("sluice_messages_dropped_total") > 0, "at the cost of the frozen one");
});

test("a packet over the limit ends the connection that sent it", async (t) => {
  const { connect } = await startBroker(t, { limits: { packet_bytes_max: 1_000 } });
  const client = await connect();
  await endsWithoutAcknowledgement(client, "a", Buffer.alloc(2_000));
  const other = await connect();
  await other.publishAsync("a", Buffer.alloc(900), { qos: 1 });
});

const RIGHTS = [
  { publish: ["own/%c/#", "open/#"], retain: ["own/%c/#"], subscribe: ["open/#"] },
  { client_id: "boss", publish: ["#"], subscribe: ["#"] },
];

test("a client publishes, retains and leaves a will only where it has the right", async (t) => {
  const { connect } = await startBroker(t, { rights: RIGHTS });
  const boss = await connect({ clientId: "boss" });
  const all = received(boss);
  await boss.subscribeAsync("#", { qos: 1 });
  const meter = () => connect({ clientId: "meter" });
  await (await meter()).publishAsync("own/meter/x", "1", { qos: 1, retain: true });
  await (await meter()).publishAsync("open/x", "2", { qos: 1 });
  await endsWithoutAcknowledgement(await meter(), "own/other/x", "3");
  await endsWithoutAcknowledgement(await meter(), "open/x", "4", true);
  const will = {
    topic: "own/other/will",
    payload: Buffer.from("5"),
    qos: 1,
    retain: false,
  } as const;
  await assert.rejects(connect({ clientId: "meter", will }), { code: 5 });
  await boss.publishAsync("end", "", { qos: 1 });
  await waitFor("the last message", () => all.includes("end "));
  assert.deepEqual(all, ["own/meter/x 1", "open/x 2", "end "]);
});

test("a client hears only what it has the right to, live, retained and from its queue", async (t) => {
  const { connect } = await startBroker(t, { rights: RIGHTS });
  const boss = await connect({ clientId: "boss" });
  await boss.publishAsync("secret/x", "retained", { qos: 1, retain: true });
  const options = { clientId: "spy", clean: false } as const;
  const spy = await connect(options);
  const all = received(spy);
  // As mqtt.js sees it, a filter that is refused is a failure of the whole.
  await assert.rejects(spy.subscribeAsync(["open/#", "secret/#"], { qos: 1 }), /Unspecified error/);
  await boss.publishAsync("secret/x", "live", { qos: 1 });
  await spy.endAsync();
  await boss.publishAsync("secret/x", "queued", { qos: 1 });
  await boss.publishAsync("open/x", "queued", { qos: 1 });
  const again = received(await connect(options));
  await waitFor("what was queued", () => again.length > 0 || all.length > 0);
  assert.deepEqual([...all, ...again], ["open/x queued"]);
});

test("a session that was kept from before has no more rights than the settings give now", async (t) => {
  const folder = temporaryFolder(t);
  const spy = { clientId: "spy", clean: false } as const;
  const before = await startBroker(t, { folder });
  const early = await before.connect(spy);
  await early.subscribeAsync(["secret/#", "open/#"], { qos: 1 });
  await early.endAsync();
  await (await before.connect()).publishAsync("secret/x", "queued before", { qos: 1 });
  await before.stop();
  const after = await startBroker(t, { folder, rights: RIGHTS });
  const boss = await after.connect({ clientId: "boss" });
  await boss.publishAsync("secret/x", "queued after", { qos: 1 });
  await boss.publishAsync("open/x", "1", { qos: 1 });
  const late = await after.connect(spy);
  const all = received(late);
  await boss.publishAsync("secret/x", "live", { qos: 1 });
  await boss.publishAsync("open/x", "2", { qos: 1 });
  await waitFor("the last message", () => all.includes("open/x 2"));
  assert.ok(
    all.every((it) => it.startsWith("open/x")),
    all.join(", "),
  );
});

test("while it cannot serve, it ends connections without a refusal, so that clients return", async (t) => {
  let why: string | undefined = "the cluster Redis is away";
  const { connect, port } = await startBroker(t, { unavailable: () => why });
  const socket = connectTcp(port, "127.0.0.1");
  let answered = 0;
  socket.on("data", (chunk) => {
    answered += chunk.length;
  });
  socket.write(Buffer.from("100d00044d5154540402000000017a", "hex"));
  await once(socket, "close");
  assert.equal(answered, 0);
  why = undefined;
  assert.equal((await connect()).connected, true);
});

test("a balancer's check is answered by whether clients should go away, not by a moment", async (t) => {
  let unwell: string | undefined;
  const unavailable = () => "the cluster Redis is away";
  const { port } = await startBroker(t, { proxy: true, unavailable, unwell: () => unwell });
  const check = async () => {
    const socket = connectTcp(port, "127.0.0.1");
    socket.write(proxyHeader({ command: "LOCAL" }));
    socket.write(Buffer.from("100e00044d5154540402000500026863", "hex"));
    const [connack] = (await once(socket, "data")) as [Buffer];
    socket.destroy();
    return connack.toString("hex");
  };
  assert.equal(await check(), "20020000");
  unwell = unavailable();
  assert.equal(await check(), "20020003");
});

test("a client that returns while its old session is being removed keeps its new one", async (t) => {
  const begun = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const removing = () => {
    begun.resolve();
    return gate.promise;
  };
  const { connect } = await startBroker(t, { removing });
  const kept = (sessionExpiryInterval: number) =>
    ({
      clientId: "returning",
      clean: false,
      protocolVersion: 5,
      properties: { sessionExpiryInterval },
    }) as const;
  await (await connect(kept(1))).endAsync();
  await begun.promise;
  const publisher = await connect();
  const left = returnSubscribeAndLeave();
  // The removal may last longer than all of that, unless the client is made to wait for it.
  await Promise.race([left, roundTrips(publisher, 20)]);
  gate.resolve();
  await left;
  await roundTrips(publisher, 1);
  const all = received(await connect(kept(1_000)));
  await waitFor("the message", () => all.length > 0);
  assert.deepEqual(all, ["t while away"]);

  async function returnSubscribeAndLeave(): Promise<void> {
    const back = await connect(kept(1_000));
    await back.subscribeAsync("t", { qos: 1 });
    await back.endAsync();
    await publisher.publishAsync("t", "while away", { qos: 1 });
  }

  async function roundTrips(by: MqttClient, count: number): Promise<void> {
    for (let i = 0; i < count; i++) await by.publishAsync("elsewhere", `${i}`, { qos: 1 });
  }
});

test("while the disk is full, clients that leave and return do not fill the log", async (t) => {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: "error" }, { write: (line) => lines.push(JSON.parse(line)) });
  let isFull = false;
  const saving = async () => {
    if (isFull) throw new SluiceError("STORE_FAILED", "no space left");
  };
  const { port, connect } = await startBroker(t, { log, saving });
  const kept = (clientId: string) => ({ clientId, clean: false });
  const leaving: MqttClient[] = [];
  for (let i = 0; i < 20; i++) leaving.push(await connect(kept(`device-${i}`)));
  isFull = true;
  for (const client of leaving) await client.endAsync();
  const returning = connectMqtt(`mqtt://127.0.0.1:${port}`, {
    ...kept("device-0"),
    reconnectPeriod: 1,
  });
  t.after(() => returning.end(true));
  let ends = 0;
  returning.on("close", () => {
    ends += 1;
  });
  await waitFor("connections that end", () => ends >= 20);
  const told = lines.map(({ msg, reason, why, unlogged }) => ({ msg, reason, why, unlogged }));
  assert.deepEqual(told, [
    {
      msg: "session not looked after",
      reason: "STORE_FAILED",
      why: "no space left",
      unlogged: 0,
    },
  ]);
});
