// reload.test: what other settings, and another user, mean to clients and sessions that go on.
// Path: journeys → gateway → broker/main. Touches: what a gateway touches; users, certificates.

import assert from "node:assert/strict";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { stringify } from "smol-toml";
import { formatHash, hashPassword } from "#runtime/passwords";
import { freeRun } from "../../scripts/chain/ports.ts";
import { accepts } from "../../scripts/chain/ready.ts";
import { CODE, kept } from "../conformance/mqtt-5/clients.ts";
import { type ConnectOptions, connectPacket } from "../conformance/support/wire-build.ts";
import { fresh, WireClient } from "../conformance/support/wire-client.ts";
import { type Certificates, makeCertificates } from "../support/certificates.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { waitFor } from "../support/wait-for.ts";
import { freePlace, type Place, startGateway } from "./support/gateway.ts";

const BOUNDED = { timeout: 60_000 } as const;

interface Right {
  readonly client_id?: string;
  readonly publish?: readonly string[];
  readonly subscribe?: readonly string[];
}

interface Running {
  readonly place: Place;
  /** Writes the settings' file and says SIGHUP; resolves when the log tells what became of it. */
  reload(settings: Record<string, unknown> | string): Promise<string>;
  client(options?: ConnectOptions): Promise<WireClient>;
}

/** The smallest settings, with `more` laid over them. */
function settingsOf({ folder, mqttPort, statusPort }: Place, more: Record<string, unknown>) {
  return {
    role: "gateway",
    name: "gw-001",
    data: join(folder, "data"),
    listeners: [{ protocol: "mqtt", address: `127.0.0.1:${mqttPort}` }],
    status: { address: `127.0.0.1:${statusPort}` },
    ...more,
  };
}

async function start(
  t: TestContext,
  more: Record<string, unknown>,
  place?: Place,
): Promise<Running> {
  const at = place ?? (await freePlace(t));
  const gateway = startGateway(t, at, more);
  await waitFor("the broker to accept", () => accepts(at.mqttPort), 20_000);
  return {
    place: at,
    async reload(settings) {
      const { length } = gateway.output();
      const text = typeof settings === "string" ? settings : stringify(settingsOf(at, settings));
      writeFileSync(join(at.folder, "sluice.toml"), text);
      gateway.child.kill("SIGHUP");
      const said = () => gateway.output().slice(length);
      const isOver = /settings read again|settings not applied/;
      await waitFor("the reload", () => isOver.test(said()));
      return said();
    },
    client: (options = {}) => WireClient.connect(t, at.mqttPort, { version: 5, ...options }),
  };
}

const rights = (...all: readonly Right[]) => ({ access: { rights: all } });

/** An administrator, who may do everything, beside what `more` says of others. */
const withAdmin = (...more: readonly Right[]) =>
  rights({ client_id: "admin", publish: ["#"], subscribe: ["#"] }, ...more);

/** Is it welcome to publish there? */
async function mayPublish(client: WireClient, topic: string, payload = "1"): Promise<boolean> {
  const { code } = (await client.publish(topic, payload, { qos: 1 })) ?? {};
  assert.ok(code !== undefined && (code < CODE.unspecified || code === CODE.notAuthorized));
  return code < CODE.unspecified;
}

test("SIGHUP gives and takes rights while clients stay connected", BOUNDED, async (t) => {
  const device = (...topics: readonly string[]) =>
    withAdmin({ client_id: "device", publish: topics.map((it) => `up/${it}`), subscribe: topics });
  const [before, after] = [device("old", "both"), device("new", "both")];
  const { reload, client } = await start(t, before);
  const admin = await client({ clientId: "admin" });
  const it = await client({ clientId: "device" });
  const topics = ["old", "both", "new"];
  const asked = topics.map((filter) => ({ filter, qos: 0 }));
  const publishAll = async (payload: string) => {
    for (const topic of topics) assert.ok(await mayPublish(admin, topic, payload));
  };
  assert.deepEqual((await it.subscribe(asked)).codes, [0, 0, CODE.notAuthorized]);
  await publishAll("before");
  for (const topic of ["old", "both"]) await it.expect("publish", { topic, payload: "before" });
  for (const topic of topics) assert.equal(await mayPublish(it, `up/${topic}`), topic !== "new");

  await reload(after);
  await publishAll("after");
  await it.expect("publish", { topic: "both", payload: "after" });
  await it.nothing();
  assert.deepEqual((await it.subscribe(asked)).codes, [CODE.notAuthorized, 0, 0]);
  await publishAll("subscribed");
  for (const topic of ["both", "new"]) await it.expect("publish", { topic, payload: "subscribed" });
  for (const topic of topics) assert.equal(await mayPublish(it, `up/${topic}`), topic !== "old");

  await reload(before);
  await publishAll("again");
  for (const topic of ["old", "both"]) await it.expect("publish", { topic, payload: "again" });
  await it.nothing();
});

test("a right that was taken away holds for a queue, under way and away", BOUNDED, async (t) => {
  const before = withAdmin({ client_id: "device", subscribe: ["secret", "open"] });
  const after = withAdmin({ client_id: "device", subscribe: ["open"] });
  const { reload, client } = await start(t, before);
  const admin = await client({ clientId: "admin" });
  const options = kept("device", 100, { receiveMaximum: 1 });
  const device = await client(options);
  await device.subscribe(["secret", "open"].map((filter) => ({ filter, qos: 1 })));
  for (const topic of ["open", "secret", "open"]) await admin.publish(topic, topic, { qos: 1 });
  // One is under way, two wait for its acknowledgement.
  const { packetId } = await device.expect("publish", { topic: "open" });
  await reload(after);
  device.sendPuback({ packetId });
  await device.take(1).then(([packet]) => assert.equal(packet?.topic, "open"));
  await device.nothing();
  await device.disconnect();

  await reload(before);
  for (const topic of ["secret", "open"]) await admin.publish(topic, "away", { qos: 1 });
  await reload(after);
  const back = await client(options);
  await back.take(1).then(([packet]) => assert.equal(packet?.topic, "open"));
  await back.nothing();
});

test(
  "who resumes another user's session gets what is allowed to it, not to that user",
  BOUNDED,
  async (t) => {
    const place = await freePlace(t);
    const file = join(place.folder, "users");
    const lines = ["alice", "bob"].map(
      async (user) => `${user}:${formatHash(await hashPassword("p"))}\n`,
    );
    writeFileSync(file, (await Promise.all(lines)).join(""), { mode: 0o600 });
    const all = [
      { client_id: "admin", publish: ["#"] },
      { user: "alice", subscribe: ["#"] },
      { user: "bob", subscribe: ["open"] },
    ];
    const { client } = await start(t, { access: { users_file: file, rights: all } }, place);
    const [admin, ...topics] = [await client({ clientId: "admin" }), "secret", "open"];
    const as = (username: string) => client({ ...kept("device"), username, password: "p" });
    const publishAll = async () => {
      for (const topic of topics) assert.ok(await mayPublish(admin, topic));
    };
    const alice = await as("alice");
    await alice.subscribe(topics.map((filter) => ({ filter, qos: 0 })));
    await publishAll();
    for (const topic of topics) await alice.expect("publish", { topic });
    await alice.disconnect();
    const bob = await as("bob");
    assert.equal(bob.connack.sessionPresent, true);
    await publishAll();
    await bob.expect("publish", { topic: "open" });
    await bob.nothing();
    await bob.disconnect();
    const again = await as("alice");
    await publishAll();
    for (const topic of topics) await again.expect("publish", { topic });
  },
);

test("a will is published by the rights of the moment when it is due", BOUNDED, async (t) => {
  const { reload, client } = await start(t, withAdmin({ client_id: "device", publish: ["will"] }));
  const admin = await client({ clientId: "admin" });
  await admin.subscribe("#", 1);
  const will = { topic: "will", payload: "bye" };
  const allowed = await client({ clientId: "device", will });
  allowed.cut();
  await admin.expect("publish", { topic: "will" });
  const refused = await client({ clientId: "device", will });
  await reload(withAdmin());
  refused.cut();
  // What its last connection left behind is done when the client is welcome again.
  await client({ clientId: "device" });
  await admin.nothing();
});

test("settings with faults change nothing, and the log tells each of them", BOUNDED, async (t) => {
  const { reload, client } = await start(t, withAdmin({ client_id: "device", publish: ["a"] }));
  const device = await client({ clientId: "device" });
  for (const broken of [
    "role = ",
    'role = "gateway"\nname = "gw-001"\n[limits]\npacket_bites_max = 1\n[access]\nanonymous = "no"',
  ]) {
    const said = await reload(broken);
    assert.match(said, /settings not applied/);
    assert.match(said, /sluice\.toml:/, "file and line");
    if (broken.includes("bites")) {
      assert.match(said, /packet_bites_max/);
      assert.match(said, /packet_bytes_max/, "the nearest known one");
      assert.match(said, /anonymous/, "every fault at once");
    }
    assert.deepEqual([await mayPublish(device, "a"), await mayPublish(device, "b")], [true, false]);
  }
  await device.nothing();
});

test("a certificate that cannot be read keeps the rights of before, too", BOUNDED, async (t) => {
  const { place, reload, client } = await startTls(t);
  const device = await client({ clientId: "device" });
  assert.ok(await mayPublish(device, "a"));
  const { listeners } = tlsSettings(place);
  writeFileSync(join(place.folder, "server.crt"), "no certificate");
  const said = await reload({ listeners, ...rights({ publish: ["nothing"] }) });
  assert.match(said, /settings not applied/);
  assert.match(said, /server\.crt/);
  assert.ok(await mayPublish(device, "a"));
});

test("a limit that was changed waits for a restart, and is named", BOUNDED, async (t) => {
  const { reload, client } = await start(t, withAdmin({ client_id: "device", publish: ["a"] }));
  const device = await client({ clientId: "device" });
  const said = await reload({
    limits: { packet_bytes_max: 200 },
    ...withAdmin({ client_id: "device", publish: ["b"] }),
  });
  assert.match(said, /needs a restart: limits\.packet_bytes_max/);
  const long = "x".repeat(1_000);
  const may = [await mayPublish(device, "a", long), await mayPublish(device, "b", long)];
  assert.deepEqual(may, [false, true], "the rights count, the limit does not yet");
});

function tlsSettings({ folder, mqttPort }: Place) {
  return {
    listeners: [
      { protocol: "mqtt", address: `127.0.0.1:${mqttPort}` },
      {
        protocol: "mqtts",
        address: `127.0.0.1:${mqttPort + 2}`,
        cert_file: join(folder, "server.crt"),
        key_file: join(folder, "server.key"),
      },
    ],
  };
}

async function startTls(t: TestContext): Promise<Running & { certificates: Certificates[] }> {
  const base = await freeRun(3);
  const place = { folder: temporaryFolder(t), mqttPort: base, statusPort: base + 1 };
  const certificates = [
    await makeCertificates(temporaryFolder(t), { clients: [] }),
    await makeCertificates(temporaryFolder(t), { clients: [] }),
  ];
  install(place, certificates[0]);
  return { ...(await start(t, tlsSettings(place), place)), certificates };
}

/** Where the settings say that they are, as a renewal does. */
function install({ folder }: Place, certificates: Certificates | undefined): void {
  assert(certificates);
  copyFileSync(certificates.serverCert, join(folder, "server.crt"));
  copyFileSync(certificates.serverKey, join(folder, "server.key"));
}

/** A client of MQTT over TLS that trusts that CA alone, after its CONNACK. */
async function connectedTls(
  t: TestContext,
  { mqttPort }: Place,
  certificates: Certificates | undefined,
): Promise<TLSSocket> {
  assert(certificates);
  const ca = readFileSync(certificates.ca);
  const socket = connectTls({ port: mqttPort + 2, host: "localhost", ca });
  t.after(() => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    socket.once("secureConnect", () => resolve()).once("error", reject);
  });
  await answer(socket, connectPacket({ version: 5, clientId: fresh() }), 0x20);
  return socket;
}

/** Sends a packet; the next thing that comes must begin with that byte. */
async function answer(socket: TLSSocket, packet: Uint8Array, first: number): Promise<void> {
  const came = new Promise<Buffer>((resolve, reject) => {
    socket.once("data", resolve).once("close", () => reject(new Error("the broker closed")));
  });
  socket.write(packet);
  assert.equal((await came)[0], first);
}

const PINGREQ = Buffer.of(0xc0, 0);
const PINGRESP = 0xd0;

test("a renewed certificate serves new connections, and old ones live on", BOUNDED, async (t) => {
  const { place, reload, certificates } = await startTls(t);
  const [before, after] = certificates;
  const old = await connectedTls(t, place, before);
  install(place, after);
  const said = await reload(tlsSettings(place));
  assert.doesNotMatch(said, /needs a restart/);
  await answer(old, PINGREQ, PINGRESP);
  const renewed = await connectedTls(t, place, after);
  await assert.rejects(connectedTls(t, place, before), { code: /CERT|SELF_SIGNED|UNABLE/ });
  await answer(renewed, PINGREQ, PINGRESP);
  await answer(old, PINGREQ, PINGRESP);
});
