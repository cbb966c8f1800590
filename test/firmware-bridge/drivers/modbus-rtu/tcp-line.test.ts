// tcp-line.test: a device with Modbus TCP is asked by numbered questions, and a stream that is none is left.
// Path: test. Touches: a loopback port; a foreign server, modbus-serial's.

import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import modbusSerial from "modbus-serial";
import type { Link } from "../../../../firmware-bridge/driver.ts";
import { modbusRtu } from "../../../../firmware-bridge/drivers/modbus-rtu/modbus-rtu.ts";
import { readRequest, writeRegisters } from "../../../../firmware-bridge/drivers/modbus-rtu/pdu.ts";
import { TcpLine, tcpFrame } from "../../../../firmware-bridge/drivers/modbus-rtu/tcp-line.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { fakeHost } from "../../fake-host.ts";
import { fakeBus } from "./fake-bus.ts";
import { modbusSettings } from "./settings-for.ts";

const OPTIONS = {
  timeoutMs: 40,
  gapMs: undefined,
  turnaroundMs: 0,
  retriesMax: 0,
  hasEcho: false,
} as const;
/** Where nobody answers. */
const SHORT_MS = 40;
const QUESTION = readRequest(1, "holding", 7, 1);
const ANSWER = Buffer.from([3, 2, 0, 7]);

/** A line whose other end is the test's. */
function lineTo(answer: Parameters<typeof fakeBus>[0], timeoutMs = 2_000) {
  const faults: string[] = [];
  const bus = fakeBus(answer, undefined);
  const line = new TcpLine(bus.link, {
    ...OPTIONS,
    timeoutMs,
    fault: (reason) => faults.push(reason),
  });
  const hearing = (async () => {
    for await (const chunk of bus.link.readable) line.receive(chunk.bytes, chunk.receivedAtMs);
  })();
  return { bus, line, faults, hearing };
}

test("frames questions as the specification does", () => {
  const frame = tcpFrame(0x1501, { unit: 0xff, pdu: Buffer.from("0300040001", "hex") });
  assert.equal(frame.toString("hex"), "150100000006ff0300040001");
});

test("hears an answer in pieces, and exceptions", async () => {
  const { line } = lineTo((frame, bus) => {
    for (const byte of tcpFrame(frame.readUInt16BE(), { unit: 1, pdu: ANSWER })) {
      bus.say(Buffer.from([byte]));
    }
  });
  const answer = await line.exchange(QUESTION);
  assert.ok(answer.kind === "data");
  assert.deepEqual(answer.pdu, ANSWER);
  const refusing = lineTo((frame, bus) => {
    bus.say(tcpFrame(frame.readUInt16BE(), { unit: 1, pdu: Buffer.from([0x83, 11]) }));
  });
  assert.deepEqual(await refusing.line.exchange(QUESTION), { kind: "exception", code: 11 });
});

test("gives a late answer to nobody, nor one of another unit, function or length", async () => {
  const wrong = [
    { number: -1, unit: 1, pdu: ANSWER },
    { number: 0, unit: 2, pdu: ANSWER },
    { number: 0, unit: 1, pdu: Buffer.from([4, 2, 0, 7]) },
    { number: 0, unit: 1, pdu: Buffer.from([3, 4, 0, 7, 0, 8]) },
    { number: 0, unit: 1, pdu: Buffer.from([3, 2, 0]) },
  ];
  for (const { number, ...frame } of wrong) {
    const { line, faults } = lineTo((question, bus) => {
      bus.say(tcpFrame((question.readUInt16BE() + number) & 0xffff, frame));
    }, SHORT_MS);
    assert.equal((await line.exchange(QUESTION)).kind, "silent");
    assert.equal(faults.length, 1);
  }
});

test("accepts as answer to a write its own repetition alone", async () => {
  const { line } = lineTo((question, bus) => {
    bus.say(tcpFrame(question.readUInt16BE(), { unit: 1, pdu: Buffer.from([6, 0, 3, 0, 6]) }));
  }, SHORT_MS);
  const answer = await line.exchange(writeRegisters(1, 3, Buffer.from([0, 5]), false));
  assert.equal(answer.kind, "silent");
});

test("leaves a stream that is no Modbus TCP, and keeps nothing of it", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 300, maxLength: 2_000 }), (bytes) => {
      const line = new TcpLine(fakeBus().link, { ...OPTIONS, fault: () => {} });
      try {
        line.receive(bytes, 0);
      } catch (fault) {
        assert.match(`${fault}`, /does not speak Modbus TCP; is framing = "rtu" meant\?/);
      }
    }),
    { seed: 5, numRuns: 300 },
  );
  const wrong = ["000100010006010300000001", "00010000000201", "0001000000ff01"];
  for (const hex of wrong) {
    const other = new TcpLine(fakeBus().link, { ...OPTIONS, fault: () => {} });
    assert.throws(() => other.receive(Buffer.from(hex, "hex"), 0), { code: "LINK_FAILED" }, hex);
  }
});

test("whoever waits is told when the connection ends", async () => {
  const { line } = lineTo(() => {});
  const waiting = line.exchange(QUESTION);
  line.end();
  await assert.rejects(waiting, { code: "LINK_FAILED" });
  await assert.rejects(line.exchange(QUESTION), { code: "LINK_FAILED" });
});

/** A link as TCP links are. */
async function linkTo(t: TestContext, port: number): Promise<Link & { socket: Socket }> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  t.after(() => socket.destroy());
  async function* readable() {
    for await (const bytes of socket) yield { bytes, receivedAtMs: Date.now() };
  }
  return {
    socket,
    path: "tcp://device:502",
    baudRate: undefined,
    readable: readable(),
    write: (bytes) => new Promise((resolve) => void socket.write(bytes, () => resolve())),
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

test("reads and writes what a foreign server holds", async (t) => {
  const holding = new Map([[3, 200]]);
  const coils = new Map<number, boolean>();
  const port = await freePort();
  const server = new modbusSerial.ServerTCP(
    {
      getInputRegister: (address: number) => (address === 0 ? 0x41ac : 0),
      getHoldingRegister: (address: number) => holding.get(address) ?? 0,
      getCoil: (address: number) => coils.get(address) ?? false,
      setRegister: (address: number, value: number) => void holding.set(address, value),
      setCoil: (address: number, value: boolean) => void coils.set(address, value),
    },
    { host: "127.0.0.1", port, unitID: 5 },
  );
  await once(server, "initialized");
  t.after(() => new Promise<void>((resolve) => server.close(() => resolve())));
  const host = fakeHost();
  const driver = modbusRtu.create(
    modbusSettings({
      framing: "tcp",
      every_ms: 50,
      slaves: [
        {
          device: "meter",
          address: 5,
          registers: [
            { channel: "u", function: "input", address: 0, type: "float32" },
            { channel: "setpoint", address: 3, scale: 0.1, writable: true },
            { channel: "relay", function: "coil", address: 9, writable: true },
          ],
        },
      ],
    }),
    host,
  );
  const link = await linkTo(t, port);
  const ended = driver.run(link);
  const device = host.known("meter");
  await waitFor("values", () => device.published.length >= 3);
  const first = device.published.slice(0, 3).toSorted();
  assert.deepEqual(first, ["relay=false", "setpoint=20", "u=21.5"]);
  assert.deepEqual(await device.command("on", "relay"), { state: "done" });
  assert.equal(coils.get(9), true);
  assert.deepEqual(await device.command("21.5", "setpoint"), { state: "done" });
  assert.equal(holding.get(3), 215);
  link.socket.end();
  await ended;
});
