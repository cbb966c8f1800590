// rtu-line.test: whatever happens on the line, nobody gets another question's answer.
// Path: test. Touches: the clock.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import type { Answer, LineOptions } from "../../../../firmware-bridge/drivers/modbus-rtu/line.ts";
import { readRequest, writeRegisters } from "../../../../firmware-bridge/drivers/modbus-rtu/pdu.ts";
import { RtuLine } from "../../../../firmware-bridge/drivers/modbus-rtu/rtu-line.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { answerFrame, type FakeBus, FakeSlave, fakeBus } from "./fake-bus.ts";

const TIMEOUT_MS = 100;
/** Where every answer comes in time, however busy the machine is. */
const PATIENT = { timeoutMs: 2_000 };
/** Each register holds its own address, so that a wrong one is seen. */
const REGISTERS = Object.fromEntries(Array.from({ length: 100 }, (_, at) => [at, at]));

type Answering = Parameters<typeof fakeBus>[0];

function lineOn(t: TestContext, answering: Answering, some: Partial<LineOptions> = {}) {
  const faults: string[] = [];
  const bus = fakeBus(answering);
  const options: LineOptions = {
    timeoutMs: TIMEOUT_MS,
    gapMs: 1,
    turnaroundMs: 5,
    retriesMax: 0,
    hasEcho: false,
    fault: (reason) => faults.push(reason),
    ...some,
  };
  const line = new RtuLine(bus.link, options);
  const hearing = (async () => {
    for await (const chunk of bus.link.readable) line.receive(chunk.bytes, chunk.receivedAtMs);
  })();
  t.after(async () => {
    bus.end();
    await hearing;
  });
  const read = async (address: number, unit = 1) =>
    told(await line.exchange(readRequest(unit, "holding", address, 1)));
  return { bus, line, read, faults };
}

/** The one register of an answer, or what came instead. */
function told(answer: Answer): number | string {
  if (answer.kind === "data") return answer.pdu.readUInt16BE(2);
  return answer.kind === "exception" ? `exception ${answer.code}` : answer.kind;
}

const slave = new FakeSlave(1, REGISTERS);

function say(bus: FakeBus, bytes: Uint8Array | undefined): void {
  if (bytes) bus.say(bytes);
}

/** Answers as the slave does, but for what `wrong` makes of the first questions. */
function wrongAtFirst(...wrong: ((answer: Buffer, bus: FakeBus) => void)[]): Answering {
  const left = [...wrong];
  return (frame, bus) => {
    const answer = slave.answer(frame);
    const fault = left.shift();
    if (answer && fault) fault(answer, bus);
    else say(bus, answer);
  };
}

test("asks and is answered, one question after the other", async (t) => {
  const { read, bus } = lineOn(t, (frame, on) => say(on, slave.answer(frame)), PATIENT);
  for (const address of [3, 4, 5]) assert.equal(await read(address), address);
  assert.equal(bus.written.length, 3);
});

test("hears an answer in pieces, with noise before it", async (t) => {
  const { read, faults } = lineOn(
    t,
    (frame, bus) => {
      bus.say(Buffer.from([0, 0xff, 1, 3]));
      for (const byte of slave.answer(frame) ?? []) bus.say(Buffer.from([byte]));
    },
    PATIENT,
  );
  assert.equal(await read(7), 7);
  assert.equal(faults.length, 1);
});

test("gives a silent slave's late answer to nobody", async (t) => {
  let late: Buffer = Buffer.alloc(0);
  const { read, bus, faults } = lineOn(
    t,
    wrongAtFirst((answer) => {
      late = answer;
    }),
  );
  assert.equal(await read(3), "silent");
  bus.say(late);
  assert.equal(await read(4), 4);
  assert.match(faults.join(), /slave 1 answered after \d+ ms; raise timeout_ms/);
});

test("gives an answer to nobody that comes while the next question waits for its own", async (t) => {
  let first: Buffer | undefined;
  const { read } = lineOn(t, (frame, bus) => {
    const answer = slave.answer(frame);
    // From here on the slave is always one answer behind.
    if (first) bus.say(first);
    first = answer;
  });
  const answers: (string | number)[] = [];
  for (const address of [3, 4, 5, 6]) answers.push(await read(address));
  assert.equal(answers[0], "silent");
  assert.deepEqual(
    answers.slice(1).filter((it) => typeof it === "number"),
    [],
  );
});

test("trusts a silent slave again when it has answered what only the last question asks", async (t) => {
  const { read, bus } = lineOn(
    t,
    wrongAtFirst(() => {}),
  );
  assert.equal(await read(3), "silent");
  assert.equal(await read(4), 4);
  assert.equal(await read(5), 5);
  const [, proof, ...asked] = bus.written;
  assert.equal(proof?.slice(0, 12), "010300040002");
  assert.equal(asked.length, 2);
});

test("trusts an answer at once that no earlier question can have had", async (t) => {
  const { read, line } = lineOn(
    t,
    wrongAtFirst(() => {}),
  );
  assert.equal(await read(3), "silent");
  const two = await line.exchange(readRequest(1, "holding", 8, 2));
  assert.equal(told(two), 8);
  assert.equal(await read(5), 5);
});

test("gives an exception to nobody that may be an earlier question's", async (t) => {
  const { read, line } = lineOn(
    t,
    wrongAtFirst(
      () => {},
      (_, bus) => bus.say(answerFrame(1, 0x83, 2)),
    ),
  );
  assert.equal(await read(3), "silent");
  const two = readRequest(1, "holding", 8, 2);
  assert.equal(told(await line.exchange(two)), "unsure");
  assert.equal(await read(5), 5);
});

test("takes the late answer to the same question, asked again, and no other one's", async (t) => {
  const late = (answer: Buffer, bus: FakeBus) => {
    setTimeout(() => bus.say(answer), TIMEOUT_MS + 10);
  };
  const slow = (answer: Buffer, bus: FakeBus) => {
    setTimeout(() => bus.say(answer), 50);
  };
  const { read } = lineOn(t, wrongAtFirst(late, slow), { retriesMax: 1 });
  assert.equal(await read(3), 3);
  assert.equal(await read(4), 4);
});

test("never confuses two registers, however long each answer takes or if it is lost", async (t) => {
  const anyDelay = fc.oneof(
    fc.constant(0),
    fc.integer({ min: 0, max: 60 }),
    fc.constant(Number.POSITIVE_INFINITY),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(anyDelay, { minLength: 6, maxLength: 6 }), async (delays) => {
      let asked = 0;
      let isFree = Promise.resolve();
      const { read, bus } = lineOn(
        t,
        (frame, on) => {
          const delay = delays[asked++ % delays.length] ?? 0;
          const answer = slave.answer(frame);
          if (delay === Number.POSITIVE_INFINITY) return;
          // A slave does one thing after the other; two timers of a busy process may change places.
          isFree = isFree.then(() => sleep(delay)).then(() => say(on, answer));
        },
        { timeoutMs: 20, retriesMax: 1 },
      );
      for (let address = 1; address <= 6; address += 1) {
        const got = await read(address);
        assert.ok(got === address || typeof got === "string", `${got} for ${address}: ${delays}`);
      }
      bus.end();
    }),
    { seed: 5, numRuns: 25 },
  );
});

test("asks again at once after a broken answer, and holds nobody up", async (t) => {
  const broken = (answer: Buffer, bus: FakeBus) => {
    answer[4] = (answer[4] ?? 0) ^ 1;
    bus.say(answer);
  };
  const truncated = (answer: Buffer, bus: FakeBus) => bus.say(answer.subarray(0, 4));
  const { read, line, faults } = lineOn(t, wrongAtFirst(broken, truncated), { retriesMax: 2 });
  assert.equal(await read(3), 3);
  assert.equal(faults.length, 2);
  assert.ok(line.heldUntilMs(1) <= performance.now());
  assert.equal(await read(4), 4);
});

test("gives no slave what another one says", async (t) => {
  const { read } = lineOn(t, (_, bus) => {
    bus.say(answerFrame(2, 3, 2, 0, 99));
    bus.say(answerFrame(2, 0x83, 2));
  });
  assert.equal(await read(3), "silent");
});

test("tells exceptions with their code", async (t) => {
  const { read } = lineOn(t, (_, bus) => bus.say(answerFrame(1, 0x83, 2)), PATIENT);
  assert.equal(await read(3), "exception 2");
});

test("a silent slave holds itself up, and no other one", async (t) => {
  const two = new FakeSlave(2, REGISTERS);
  const { read, line } = lineOn(t, (frame, bus) => say(bus, two.answer(frame)));
  assert.equal(await read(3, 1), "silent");
  assert.ok(line.heldUntilMs(1) > performance.now());
  const startMs = performance.now();
  assert.equal(await read(4, 2), 4);
  assert.ok(performance.now() - startMs < TIMEOUT_MS);
});

test("an adapter that hears itself is understood with echo, and told of without", async (t) => {
  const echoing: Answering = (frame, bus) => {
    bus.say(frame.subarray(0, 3));
    bus.say(frame.subarray(3));
    say(bus, slave.answer(frame));
  };
  const withEcho = lineOn(t, echoing, { hasEcho: true, ...PATIENT });
  assert.equal(await withEcho.read(3), 3);
  assert.deepEqual(withEcho.faults, []);
  const without = lineOn(t, echoing, PATIENT);
  assert.equal(await without.read(3), 3);
  assert.match(without.faults.join(), /set echo = true/);
});

test("with echo, what was sent is no answer to itself", async (t) => {
  const { line } = lineOn(t, (frame, bus) => bus.say(frame), { hasEcho: true });
  const answer = await line.exchange(writeRegisters(1, 3, Buffer.from([0, 5]), false));
  assert.equal(answer.kind, "silent");
});

test("sends to all slaves without waiting for an answer", async (t) => {
  const { line, bus } = lineOn(t, () => {}, PATIENT);
  const startMs = performance.now();
  const answer = await line.exchange(writeRegisters(0, 3, Buffer.from([0, 5]), false));
  assert.equal(answer.kind, "data");
  assert.ok(performance.now() - startMs < PATIENT.timeoutMs);
  assert.equal(bus.written.length, 1);
});

test("a line that is never silent is said to be, costs a time-out, and is used once it is", async (t) => {
  const { read, bus } = lineOn(t, (frame, on) => say(on, slave.answer(frame)), { gapMs: 500 });
  const noise = Buffer.alloc(64, 0x55);
  const babbling = setInterval(() => bus.say(noise), 2);
  t.after(() => clearInterval(babbling));
  await sleep(5);
  const startMs = performance.now();
  assert.equal(await read(3), "silent");
  assert.ok(performance.now() - startMs < 20 * TIMEOUT_MS);
  assert.equal(bus.written.length, 0);
  clearInterval(babbling);
  await waitFor("an answer", async () => (await read(3)) === 3);
});

test("keeps nothing of a flood", (t) => {
  const { line } = lineOn(t, () => {});
  const before = process.memoryUsage().arrayBuffers;
  for (let index = 0; index < 5_000; index += 1) line.receive(Buffer.alloc(4_096, index), 0);
  assert.ok(process.memoryUsage().arrayBuffers - before < 64 * 1024 * 1024);
});

test("whoever waits is told when the line ends, and whoever asks afterwards", async (t) => {
  const { line } = lineOn(t, () => {});
  const waiting = line.exchange(readRequest(1, "holding", 0, 1));
  await sleep(5);
  line.end();
  await assert.rejects(waiting, { code: "LINK_FAILED" });
  await assert.rejects(line.exchange(readRequest(1, "holding", 0, 1)), { code: "LINK_FAILED" });
});
