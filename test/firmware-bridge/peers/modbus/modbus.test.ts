// modbus.test: libmodbus' slaves answer a master that nobody here wrote: mbpoll.
// Path: test → [modbus]. Touches: a pseudo-terminal, a TCP port; runs mbpoll and the compiler.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { ModbusSlaves } from "./modbus.ts";

/** What mbpoll prints when it asks once, or writes `values`: registers count from 0 as ours do. */
function mbpoll(words: string, target: string, ...values: number[]): Promise<string> {
  const all = [...`-0 -1 -o 0.2 ${words}`.split(" "), target, ...values.map(String)];
  return new Promise((resolve) => {
    execFile("mbpoll", all, { timeout: 10_000 }, (_, said, failed) => resolve(said + failed));
  });
}

const rtu = (words: string) => `-m rtu -b 9600 -P none ${words}`;

/** Lines as `[2]: <tab>21.5`. */
const values = (output: string) => [...output.matchAll(/^\[\d+\]:\s+(\S+)/gm)].map((it) => it[1]);

test("every kind of register is read as modbus.ts says", async (t) => {
  const { path } = await ModbusSlaves.start(t);
  const read = async (words: string) => values(await mbpoll(rtu(words), path));
  assert.deepEqual(await read("-a 1 -t 4:float -B -r 2"), ["21.5"]);
  assert.deepEqual(await read("-a 2 -t 4:float -r 4"), ["42.25"]);
  assert.deepEqual(await read("-a 1 -t 4:hex -r 6 -c 4"), ["0xAC41", "0x0000", "0x0000", "0xAC41"]);
  assert.deepEqual(await read("-a 1 -t 4:int -B -r 10"), ["-123456"]);
  assert.deepEqual(await read("-a 2 -t 4 -r 0"), ["4321"]);
  assert.deepEqual(await read("-a 1 -t 3 -r 0"), ["2305"]);
  assert.deepEqual(await read("-a 1 -t 3:float -B -r 1"), ["49.75"]);
  assert.deepEqual(await read("-a 1 -t 0 -r 0 -c 4"), ["1", "0", "1", "0"]);
  assert.deepEqual(await read("-a 1 -t 1 -r 0 -c 4"), ["0", "1", "0", "1"]);
});

test("writing is told, and read back; what may not be written answers exception 2", async (t) => {
  const slaves = await ModbusSlaves.start(t);
  await mbpoll(rtu("-a 2 -t 4 -r 0"), slaves.path, 5, 6);
  await mbpoll(rtu("-a 1 -t 0 -r 3"), slaves.path, 1);
  assert.deepEqual(slaves.written, ["2 holding 0 5 6", "1 coil 3 1"]);
  assert.deepEqual(values(await mbpoll(rtu("-a 2 -t 4 -r 0 -c 2"), slaves.path)), ["5", "6"]);
  const refused = await mbpoll(rtu("-a 1 -t 4 -r 100"), slaves.path, 5);
  assert.match(refused, /Illegal data address/);
  assert.match(await mbpoll(rtu("-a 1 -t 4 -r 128"), slaves.path), /Illegal data address/);
});

test("contents change under the master's eyes", async (t) => {
  const slaves = await ModbusSlaves.start(t);
  await slaves.set(1, "input", 0, 17, 18);
  await slaves.set(1, "discrete", 0, 1);
  assert.deepEqual(values(await mbpoll(rtu("-a 1 -t 3 -r 0 -c 2"), slaves.path)), ["17", "18"]);
  assert.deepEqual(values(await mbpoll(rtu("-a 1 -t 1 -r 0"), slaves.path)), ["1"]);
});

test("number 9 is silent, and its neighbours answer all the same", async (t) => {
  const { path } = await ModbusSlaves.start(t);
  assert.match(await mbpoll(rtu("-a 9 -t 4 -r 0"), path), /timed out/);
  assert.deepEqual(values(await mbpoll(rtu("-a 1 -t 4 -r 0"), path)), ["1234"]);
});

test("a slave is silent, garbled, late or busy when told to, and sound again after", async (t) => {
  const slaves = await ModbusSlaves.start(t);
  const ask = () => mbpoll(rtu("-a 1 -t 4 -r 0"), slaves.path);
  const wrongs = [
    ["silent", /timed out/],
    ["garbled", /Invalid CRC|timed out/],
    ["busy", /Slave device or server is busy/],
    // Last, as the late answer stands in the line for whoever reads next.
    ["late", /timed out/],
  ] as const;
  for (const [fault, words] of wrongs) {
    await slaves.fail(1, fault);
    assert.match(await ask(), words, fault);
    await slaves.fail(1, "none");
    assert.deepEqual(values(await ask()), ["1234"], `after ${fault}`);
  }
});

test("the same slaves answer by TCP, and say so when a unit is absent", async (t) => {
  const slaves = await ModbusSlaves.start(t);
  const tcp = (words: string) => mbpoll(`-m tcp -p ${slaves.port} ${words}`, "127.0.0.1");
  assert.deepEqual(values(await tcp("-a 2 -t 4:float -B -r 2")), ["42.25"]);
  assert.match(await tcp("-a 9 -t 4 -r 0"), /Target device failed to respond/);
  assert.deepEqual(slaves.asked, ["2 3 2 2", "9 3 0 1"]);
});
