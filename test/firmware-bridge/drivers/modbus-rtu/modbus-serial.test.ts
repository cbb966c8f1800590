// modbus-serial.test: why the driver speaks Modbus by itself: what modbus-serial makes of a bad line.
// Path: test. Touches: the clock.

import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import modbusSerial from "modbus-serial";
import { answerFrame, FakeSlave } from "./fake-bus.ts";

const { default: ModbusRTU } = modbusSerial;

/** A port as modbus-serial takes them; `answer` gets each question. */
class Port extends EventEmitter {
  isOpen = true;
  readonly #answer: (question: Buffer, port: Port) => void;

  constructor(answer: (question: Buffer, port: Port) => void) {
    super();
    this.#answer = answer;
  }

  open(done: () => void): void {
    done();
  }

  write(question: Buffer): void {
    setImmediate(() => this.#answer(Buffer.from(question), this));
  }
}

function clientOn(answer: (question: Buffer, port: Port) => void) {
  const client = new ModbusRTU(new Port(answer));
  client.open(() => {});
  client.setID(1);
  client.setTimeout(20);
  return client;
}

const slave = new FakeSlave(1, { 3: 3, 4: 4 });

test("modbus-serial takes the late answer to one question for the answer to the next", async () => {
  let late: Buffer | undefined;
  const client = clientOn((question, port) => {
    if (late) port.emit("data", late);
    late = slave.answer(question);
  });
  await assert.rejects(client.readHoldingRegisters(3, 1), { name: "TransactionTimedOutError" });
  const { data } = await client.readHoldingRegisters(4, 1);
  assert.deepEqual(data, [3], "the value of register 3, told as that of register 4");
});

test("modbus-serial takes another slave's exception for this one's", async () => {
  const client = clientOn((_, port) => port.emit("data", answerFrame(9, 0x83, 2)));
  await assert.rejects(client.readHoldingRegisters(3, 1), { modbusCode: 2 });
});

test("modbus-serial takes any answer to a write for the one to its own", async () => {
  const client = clientOn((_, port) => port.emit("data", answerFrame(1, 6, 0, 99, 0, 98)));
  const written = await client.writeRegister(3, 5);
  assert.deepEqual(written, { address: 99, value: 98 });
});
