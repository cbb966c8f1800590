// modbus-rtu.test: slaves are devices: polled in their periods, told of, written to, and never mixed up.
// Path: test. Touches: the clock.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { modbusRtu } from "../../../../firmware-bridge/drivers/modbus-rtu/modbus-rtu.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { capturedLog } from "../../captured-log.ts";
import { type FakeDevice, fakeHost } from "../../fake-host.ts";
import { answerFrame, FakeSlave, fakeBus } from "./fake-bus.ts";
import { modbusSettings, type RegisterInput } from "./settings-for.ts";

type Table = Parameters<typeof modbusSettings>[0];
type Slaves = Table["slaves"];

/** Where somebody is silent. */
const SHORT = { timeout_ms: 30 };
const QUICK = { timeout_ms: 2_000, gap_ms: 0, every_ms: 20, retries_max: 0 } as const;

/** One slave, `meter`, with these registers. */
function meter(...registers: RegisterInput[]): Slaves {
  return [{ device: "meter", address: 1, registers }];
}

/** The driver on a line with these slaves, from now until the test ends. */
function running(
  t: TestContext,
  slaves: Slaves,
  present: readonly FakeSlave[],
  some: Omit<Table, "slaves"> = {},
) {
  const { log, lines } = capturedLog();
  const host = fakeHost("bus", { log });
  const settings = modbusSettings({ ...QUICK, ...some, slaves });
  const driver = modbusRtu.create(settings, host);
  const silent = new Set<FakeSlave>();
  const plug = () => {
    const bus = fakeBus((frame, on) => {
      for (const slave of present) {
        const answer = silent.has(slave) ? undefined : slave.answer(frame);
        if (answer) on.say(answer);
      }
    });
    const ended = driver.run(bus.link);
    t.after(async () => {
      bus.end();
      await ended;
    });
    return { bus, ended };
  };
  return { host, plug, silent, log: lines, ...plug() };
}

async function online(device: FakeDevice): Promise<FakeDevice> {
  await waitFor(`${device.name} is online`, () => device.whyOffline === undefined);
  return device;
}

/** What was told on a channel. */
function told(device: FakeDevice, channel: string): string[] {
  const prefix = `${channel}=`;
  return device.published
    .filter((it) => it.startsWith(prefix))
    .map((it) => it.slice(prefix.length));
}

async function tells(device: FakeDevice, channel: string, value: string): Promise<void> {
  await waitFor(`${channel} is told as ${value}`, () => told(device, channel).at(-1) === value);
}

test("tells what the meter holds, with scale, order and time", async (t) => {
  const slave = new FakeSlave(1, { 0: 2305, 2: 0, 3: 0x41ac });
  slave.coils[7] = 1;
  const { host } = running(
    t,
    meter(
      { channel: "voltage", address: 0, scale: 0.1 },
      { channel: "power", address: 2, type: "float32", word_order: "little" },
      { channel: "relay", address: 7, function: "coil" },
    ),
    [slave],
  );
  const device = await online(host.known("meter"));
  await tells(device, "voltage", "230.5");
  await tells(device, "power", "21.5");
  await tells(device, "relay", "true");
  const [message] = device.messages;
  assert.ok(Math.abs((message?.receivedAtMs ?? 0) - Date.now()) < 5_000);
});

test("says what its channels are", (t) => {
  const { host } = running(
    t,
    [
      {
        device: "meter",
        model: "SDM120",
        registers: [
          { channel: "u", address: 0, unit: "V", dead_band: 0.5 },
          { channel: "s", address: 9, type: "string", length: 4, report: "always" },
          { channel: "c", address: 0, function: "coil", writable: true },
        ],
      },
    ],
    [],
  );
  assert.deepEqual(host.known("meter").about, {
    model: "SDM120",
    channels: [
      { name: "u", kind: "number", writable: false, unit: "V", policy: { deadBand: 0.5 } },
      { name: "s", kind: "text", writable: false },
      { name: "c", kind: "boolean", writable: true, policy: { deadBand: 0 } },
    ],
  });
});

test("reads registers that lie side by side in one question", async (t) => {
  const slave = new FakeSlave(1, { 0: 10, 1: 11, 2: 12 });
  const { host, bus } = running(
    t,
    meter({ channel: "a", address: 0 }, { channel: "b", address: 1 }, { channel: "c", address: 2 }),
    [slave],
    { every_ms: 60_000 },
  );
  const device = await online(host.known("meter"));
  assert.deepEqual(device.published, ["a=10", "b=11", "c=12"]);
  assert.equal(bus.written.length, 1);
});

test("keeps each period, without drift", async (t) => {
  const slave = new FakeSlave(1);
  const { host } = running(
    t,
    meter({ channel: "fast", address: 0, group: "fast" }, { channel: "slow", address: 9 }),
    [slave],
    { every_ms: 200, groups: [{ name: "fast", every_ms: 20 }] },
  );
  const device = host.known("meter");
  const startMs = performance.now();
  await waitFor("some polls", () => told(device, "slow").length >= 4);
  const passedMs = performance.now() - startMs;
  assert.ok(Math.abs(passedMs - 600) < 100, `${passedMs} ms for three periods of 200`);
  const fast = told(device, "fast").length;
  // A busy machine may leave some out, and makes up for none.
  assert.ok(fast <= passedMs / 20 + 2 && fast > passedMs / 20 / 4, `${fast} in ${passedMs} ms`);
});

test("counts polls that a slow line had no time for, and tells it in the log", async (t) => {
  const slave = new FakeSlave(1);
  const registers = [0, 10, 20, 30].map((address) => ({ channel: `c${address}`, address }));
  const { log } = running(t, meter(...registers), [slave], { every_ms: 10, gap_ms: 20 });
  await waitFor("the log", () => log.some((line) => JSON.stringify(line).includes("too slow")));
});

test("a register that the device refuses is told of once, and the others go on", async (t) => {
  const slave = new FakeSlave(1, { 0: 1, 2: 3 });
  const refuses = (_: unknown, address: number, count: number) =>
    address <= 1 && address + count > 1 ? 2 : undefined;
  slave.refuses = refuses;
  const { host, bus, log } = running(
    t,
    meter({ channel: "a", address: 0 }, { channel: "b", address: 1 }, { channel: "c", address: 2 }),
    [slave],
  );
  const device = await online(host.known("meter"));
  await waitFor("some rounds", () => told(device, "c").length > 5);
  const error = {
    channel: "b",
    function: "holding",
    address: 1,
    error: "illegal data address (2)",
  };
  assert.deepEqual(told(device, "error"), [JSON.stringify(error)]);
  assert.ok(told(device, "a").length > 4);
  assert.deepEqual(told(device, "b"), []);
  // The three were asked for together once.
  assert.equal(bus.written.filter((it) => it.startsWith("010300000003")).length, 1);
  slave.refuses = () => undefined;
  await tells(device, "b", "0");
  await tells(device, "error", JSON.stringify({ ...error, error: null }));
  assert.equal(told(device, "error").length, 2);
  slave.refuses = refuses;
  await tells(device, "error", JSON.stringify(error));
  // Who looks for it later finds it in the log.
  const logged = log.filter(({ msg }) => msg === "register not read");
  assert.deepEqual(
    logged.map(({ device, channel, error }) => [device, channel, error]),
    [["meter", "b", "illegal data address (2)"]],
  );
});

test("a busy device is asked on, and told of once", async (t) => {
  const slave = new FakeSlave(1);
  slave.refuses = () => 6;
  const { host, bus } = running(t, meter({ channel: "a", address: 0 }), [slave]);
  const device = await online(host.known("meter"));
  await waitFor("some polls", () => bus.written.length > 5);
  assert.equal(told(device, "error").length, 1);
  assert.match(told(device, "error")[0] ?? "", /server device busy \(6\)/);
});

test("what is not of the type is an error of its channel", async (t) => {
  const slave = new FakeSlave(1, { 0: 0xabcd });
  const { host } = running(t, meter({ channel: "a", address: 0, type: "bcd16" }), [slave]);
  const device = await online(host.known("meter"));
  await waitFor("the error", () => told(device, "error").length > 0);
  assert.match(told(device, "error")[0] ?? "", /what it holds is no bcd16/);
});

test("a silent slave is offline with the reason, asked ever more seldom, and back when it answers", async (t) => {
  const slave = new FakeSlave(1, { 0: 5 });
  const slaves = meter({ channel: "a", address: 0 }).map((it) => ({ ...it, misses_max: 2 }));
  const { host, silent, bus, log } = running(t, slaves, [slave], SHORT);
  const device = await online(host.known("meter"));
  silent.add(slave);
  const silentAtMs = performance.now();
  await waitFor("offline", () => device.whyOffline);
  // The second question waited a second, instead of 20 ms.
  assert.ok(performance.now() - silentAtMs > 900);
  assert.match(device.whyOffline ?? "", /slave 1: no answer within 30 ms, 2 times in a row/);
  assert.deepEqual(
    log.filter(({ msg }) => msg === "device offline").map(({ why }) => why),
    [device.whyOffline],
  );
  const asked = bus.written.length;
  silent.delete(slave);
  await online(device);
  assert.ok(bus.written.length - asked < 5, "it was asked more than a few times");
});

test("silent slaves cost the others no poll", async (t) => {
  const slave = new FakeSlave(1);
  const registers = [{ channel: "a", address: 0 }];
  const absent = [2, 3].map((address) => ({ device: `absent-${address}`, address, registers }));
  const { host } = running(t, [...meter(...registers), ...absent], [slave], {
    // Asked at each period, the two would take more time than there is.
    timeout_ms: 80,
    every_ms: 100,
  });
  const device = host.known("meter");
  const startMs = performance.now();
  await waitFor("polls", () => told(device, "a").length >= 20);
  const passedMs = performance.now() - startMs;
  assert.ok(passedMs < 2_500, `${passedMs} ms for 19 periods of 100`);
});

test("gives no slave's value to another, nor an earlier question's", async (t) => {
  const one = new FakeSlave(1, { 0: 100, 10: 110 });
  const two = new FakeSlave(2, { 0: 200, 10: 210 });
  const registers = [
    { channel: "a", address: 0 },
    { channel: "b", address: 10 },
  ];
  const host = fakeHost();
  const slaves = [
    { device: "one", address: 1, registers },
    { device: "two", address: 2, registers },
  ];
  const driver = modbusRtu.create(modbusSettings({ ...QUICK, ...SHORT, slaves }), host);
  let asked = 0;
  const bus = fakeBus((frame, on) => {
    const answer = one.answer(frame) ?? two.answer(frame);
    asked += 1;
    // Some come too late, some not at all.
    if (answer && asked % 5 === 0) setTimeout(() => on.say(answer), 45);
    else if (answer && asked % 7 !== 0) on.say(answer);
  });
  const ended = driver.run(bus.link);
  t.after(async () => {
    bus.end();
    await ended;
  });
  await waitFor("values", () => told(host.known("one"), "a").length > 5, 20_000);
  const values = (device: string) => new Set(host.known(device).published);
  assert.deepEqual([...values("one")].toSorted(), ["a=100", "b=110"]);
  for (const value of values("two")) assert.ok(["a=200", "b=210"].includes(value), value);
});

test("never asks while a question is open, whoever it is to, and does commands before polls", async (t) => {
  const slaves = [1, 2, 3].map((unit) => new FakeSlave(unit));
  const registers = [
    { channel: "a", address: 0 },
    { channel: "b", address: 10, writable: true },
  ];
  const host = fakeHost();
  const settings = modbusSettings({
    timeout_ms: 2_000,
    every_ms: 10,
    slaves: slaves.map(({ unit }) => ({ device: `m${unit}`, address: unit, registers })),
  });
  const driver = modbusRtu.create(settings, host);
  let open = 0;
  let most = 0;
  const bus = fakeBus((frame, on) => {
    open += 1;
    most = Math.max(most, open);
    setTimeout(() => {
      open -= 1;
      for (const slave of slaves) {
        const answer = slave.answer(frame);
        if (answer) on.say(answer);
      }
    }, 3);
  });
  const ended = driver.run(bus.link);
  t.after(async () => {
    bus.end();
    await ended;
  });
  const devices = await Promise.all(slaves.map(({ unit }) => online(host.known(`m${unit}`))));
  const before = bus.written.length;
  const commands = devices.flatMap((device) => ["5", "6"].map((it) => device.command(it, "b")));
  const outcomes = await Promise.all(commands);
  assert.ok(outcomes.every(({ state }) => state === "done"));
  assert.equal(most, 1);
  // Six writes with their readings, and at most the poll that was under way.
  assert.ok(bus.written.length - before <= 6 * 2 + 1, `${bus.written.length - before} questions`);
});

test("a slave whose exceptions come one question late is held back, and none of them is told", async (t) => {
  const slave = new FakeSlave(1);
  const other = new FakeSlave(2, { 0: 7 });
  let late: Buffer | undefined;
  const host = fakeHost();
  const register = { channel: "a", address: 0 };
  const settings = modbusSettings({
    ...QUICK,
    ...SHORT,
    slaves: [
      { device: "late", address: 1, registers: [register, { channel: "b", address: 50 }] },
      { device: "other", address: 2, registers: [register] },
    ],
  });
  slave.refuses = () => 2;
  const driver = modbusRtu.create(settings, host);
  const bus = fakeBus((frame, on) => {
    const answer = slave.answer(frame);
    if (answer && late) on.say(late);
    if (answer) late = answer;
    else on.say(other.answer(frame) ?? Buffer.alloc(0));
  });
  const ended = driver.run(bus.link);
  t.after(async () => {
    bus.end();
    await ended;
  });
  await waitFor("polls of the other", () => told(host.known("other"), "a").length > 20);
  assert.equal(told(host.known("late"), "error").length, 0);
  const asked = bus.written.filter((frame) => frame.startsWith("01")).length;
  assert.ok(asked < 6, `the late one was asked ${asked} times`);
});

test("writes by the function that fits, and is done when the register reads as written", async (t) => {
  const slave = new FakeSlave(1);
  const { host, bus } = running(
    t,
    meter(
      { channel: "setpoint", address: 3, scale: 0.1, type: "int16", writable: true, max: 30 },
      { channel: "limit", address: 10, type: "float32", writable: true },
      { channel: "many", address: 20, writable: true, write_multiple: true },
      { channel: "relay", address: 0, function: "coil", writable: true },
      { channel: "light", address: 1, function: "coil", writable: true, write_multiple: true },
    ),
    [slave],
    { every_ms: 60_000 },
  );
  const device = await online(host.known("meter"));
  const done = { state: "done" };
  assert.deepEqual(await device.command("-21.5", "setpoint"), done);
  assert.equal(slave.registers[3], 0x10000 - 215);
  assert.deepEqual(await device.command("1.5", "limit"), done);
  assert.deepEqual([slave.registers[10], slave.registers[11]], [0x3fc0, 0]);
  assert.deepEqual(await device.command("7", "many"), done);
  assert.deepEqual(await device.command("on", "relay"), done);
  assert.deepEqual(await device.command("true", "light"), done);
  assert.equal(slave.coils[0], 1);
  const functions = bus.written.map((frame) => Number.parseInt(frame.slice(2, 4), 16));
  assert.deepEqual(
    functions.filter((it) => it > 4),
    [6, 16, 16, 5, 15],
  );
  assert.equal(told(device, "setpoint").at(-1), "-21.5");
});

test("a write that the register does not show is failed, with what it reads", async (t) => {
  const slave = new FakeSlave(1, { 3: 200 });
  const { host } = running(
    t,
    meter({ channel: "setpoint", address: 3, scale: 0.1, writable: true }),
    [slave],
  );
  const device = await online(host.known("meter"));
  const answer = slave.answer.bind(slave);
  slave.answer = (frame) => {
    const answered = answer(frame);
    slave.registers[3] = 200;
    return answered;
  };
  const outcome = await device.command("21.5", "setpoint");
  assert.deepEqual(outcome, { state: "failed", reason: "wrote 21.5, reads 20" });
});

test("a register that cannot be read is written without reading it back", async (t) => {
  const slave = new FakeSlave(1);
  slave.refuses = (code) => (code === 3 ? 2 : undefined);
  const { host, bus } = running(
    t,
    meter({ channel: "reset", address: 3, poll: false, writable: true, read_back: false }),
    [slave],
  );
  const device = await online(host.known("meter"));
  assert.deepEqual(await device.command("1", "reset"), { state: "done" });
  assert.equal(bus.written.length, 1);
});

test("refuses commands that say nothing it can do, with the reason, and sends nothing", async (t) => {
  const { host, bus } = running(
    t,
    meter(
      { channel: "setpoint", address: 3, writable: true, min: 5, max: 30 },
      { channel: "voltage", address: 0 },
    ),
    [new FakeSlave(1)],
    { every_ms: 60_000 },
  );
  const device = await online(host.known("meter"));
  await waitFor("the first round", () => bus.written.length === 2);
  const reasons = await Promise.all(
    (
      [
        ["5", undefined],
        ["5", "speed"],
        ["5", "voltage"],
        ["warm", "setpoint"],
        ["31", "setpoint"],
        ["5.5", "setpoint"],
      ] as const
    ).map(async ([payload, channel]) => {
      const outcome = await device.command(payload, channel);
      return outcome.state === "failed" ? outcome.reason : "done";
    }),
  );
  assert.deepEqual(reasons, [
    "a command goes to one channel, as set/<channel>",
    'there is no channel "speed"',
    "voltage is not writable in the settings",
    '"warm" is not a number',
    "31 is more than 30",
    "5.5 lies between two steps of 1",
  ]);
  assert.equal(bus.written.length, 2);
});

test("a refused write is failed with the device's own exception", async (t) => {
  const slave = new FakeSlave(1);
  slave.refuses = (code) => (code === 6 ? 4 : undefined);
  const { host } = running(t, meter({ channel: "a", address: 3, writable: true }), [slave]);
  const device = await online(host.known("meter"));
  const outcome = await device.command("1", "a");
  assert.deepEqual(outcome, { state: "failed", reason: "server device failure (4)" });
});

test("a write without an answer is failed, and says that it may have happened", async (t) => {
  const slave = new FakeSlave(1);
  const { host } = running(t, meter({ channel: "a", address: 3, writable: true }), [slave], SHORT);
  const device = await online(host.known("meter"));
  const answer = slave.answer.bind(slave);
  slave.answer = (frame) => (frame[1] === 6 ? undefined : answer(frame));
  const outcome = await device.command("1", "a");
  assert.ok(outcome.state === "failed");
  assert.match(outcome.reason, /no answer within 30 ms; whether it was written is not known/);
});

test("writes to all slaves at once, by number 0", async (t) => {
  const register = { channel: "reset", address: 3, poll: false, writable: true, read_back: false };
  const { host, bus } = running(t, [{ device: "all", address: 0, registers: [register] }], [], {
    turnaround_ms: 5,
  });
  const device = await online(host.known("all"));
  assert.deepEqual(await device.command("1", "reset"), { state: "done" });
  assert.deepEqual(bus.written, [answerFrame(0, 6, 0, 3, 0, 1).toString("hex")]);
});

test("ends with its link, fails what waits for it, and begins anew with the next one", async (t) => {
  const slave = new FakeSlave(1, { 0: 5 });
  const { host, plug, bus, ended, silent } = running(
    t,
    meter({ channel: "a", address: 0, writable: true }),
    [slave],
    { timeout_ms: 5_000, every_ms: 60_000 },
  );
  const device = await online(host.known("meter"));
  silent.add(slave);
  const command = device.command("1", "a");
  await waitFor("the write", () => bus.written.some((it) => it.startsWith("0106")));
  bus.end();
  await ended;
  await assert.rejects(command, { code: "LINK_FAILED" });
  await assert.rejects(device.command("1", "a"), { code: "LINK_FAILED" });
  silent.clear();
  device.offline("the link is gone");
  plug();
  await online(device);
  assert.deepEqual(await device.command("7", "a"), { state: "done" });
});

test("rejects when the link takes no bytes", async () => {
  const driver = modbusRtu.create(
    modbusSettings({ ...QUICK, slaves: meter({ channel: "a", address: 0 }) }),
    fakeHost(),
  );
  const { link } = fakeBus();
  const broken = { ...link, write: async () => Promise.reject(new LinkFailed()) };
  await assert.rejects(driver.run(broken), { message: "the cable is cut" });
});

class LinkFailed extends Error {
  override readonly message = "the cable is cut";
}

test("is not polled while there is no room for what was read", async (t) => {
  const host = fakeHost();
  const driver = modbusRtu.create(
    modbusSettings({ ...QUICK, slaves: meter({ channel: "a", address: 0 }) }),
    host,
  );
  const room = Promise.withResolvers<void>();
  host.known("meter").publish = () => room.promise;
  const slave = new FakeSlave(1);
  const bus = fakeBus((frame, on) => on.say(slave.answer(frame) ?? Buffer.alloc(0)));
  const ended = driver.run(bus.link);
  t.after(async () => {
    bus.end();
    await ended;
  });
  await online(host.known("meter"));
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(bus.written.length, 1);
  room.resolve();
  await waitFor("the next poll", () => bus.written.length > 1);
});
