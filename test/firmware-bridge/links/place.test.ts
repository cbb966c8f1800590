// place.test: what finding a port promises: the one that is meant, or none.
// Path: test. Touches: pseudo-terminals, a temporary folder that looks like /sys and /dev.

import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeUsb } from "./fake-usb.ts";
import { supervised } from "./supervised.ts";

const CH340 = { vid: "1a86", pid: "7523" };
const A = { tty: "ttyUSB0", socket: "1-1" };
const B = { tty: "ttyUSB1", socket: "1-2" };

test("finds the one adapter of a kind, wherever it is plugged in, as soon as it is", async (t) => {
  const usb = new FakeUsb(t);
  const link = supervised(t, { match: CH340 }, { roots: usb.roots });
  await link.is("absent");
  assert.equal(link.supervisor.why, "usb 1a86:7523 is not there");
  await usb.plug({ ...B, pid: "6001" });
  const pty = await usb.plug(A);
  await link.is("up", 1_000);
  pty.write("hello;");
  await link.hears("hello;");
  assert.equal(link.supervisor.identity, `by-id ${usb.byId()}`);
});

test("finds an adapter by its serial number among equal ones", async (t) => {
  const usb = new FakeUsb(t);
  await usb.plug({ ...A, serial: "one" });
  const pty = await usb.plug({ ...B, serial: "two" });
  const link = supervised(t, { match: { ...CH340, serial: "two" } }, { roots: usb.roots });
  await link.is("up");
  pty.write("two;");
  await link.hears("two;");
  assert.equal(link.supervisor.identity, `by-id ${usb.byId("two")}`);
});

test("opens none of two adapters that could be meant, and says how to choose", async (t) => {
  const usb = new FakeUsb(t);
  await usb.plug(A);
  const b = await usb.plug(B);
  const link = supervised(t, { match: CH340 }, { roots: usb.roots });
  await link.is("failing");
  const [first, second] = [usb.byPath("1-1"), usb.byPath("1-2")];
  assert.equal(
    link.supervisor.why,
    `usb 1a86:7523 is at ${first} and ${second}, and cannot be told apart. Say which: path = "${first}"`,
  );
  await usb.unplug(B, b);
  await link.is("up", 1_000);
  assert.equal(link.supervisor.counts.opens, 1);
});

test("never takes an equal adapter beside it for the one that went away", async (t) => {
  const usb = new FakeUsb(t);
  const a = await usb.plug(A);
  const link = supervised(t, { match: CH340 }, { roots: usb.roots });
  await link.is("up");
  await usb.plug(B);
  await usb.unplug(A, a);
  await link.is("absent");
  assert.match(link.supervisor.why, /1-1.* is gone; what is at .*1-2.* may be another\. Say which/);
  const again = await usb.plug(A);
  await link.is("up", 1_000);
  again.write("again;");
  await link.hears("again;");
});

test("follows an adapter with a serial number to another socket", async (t) => {
  const usb = new FakeUsb(t);
  const one = { ...A, serial: "one" };
  const a = await usb.plug(one);
  const link = supervised(t, { match: CH340 }, { roots: usb.roots });
  await link.is("up");
  await usb.plug({ ...B, serial: "two" });
  await usb.unplug(one, a);
  await link.is("absent");
  const moved = await usb.plug({ tty: "ttyUSB2", socket: "1-3", serial: "one" });
  await link.is("up", 1_000);
  moved.write("moved;");
  await link.hears("moved;");
  assert.deepEqual(link.warnings(), []);
});

test("says that another adapter was plugged in its place", async (t) => {
  const usb = new FakeUsb(t);
  const one = { ...A, serial: "one" };
  const a = await usb.plug(one);
  const link = supervised(t, { match: CH340 }, { roots: usb.roots });
  await link.is("up");
  await usb.unplug(one, a);
  await link.is("absent");
  await usb.plug({ ...A, serial: "two" });
  await link.is("up", 1_000);
  assert.match(link.warnings().join(), /another adapter is at .*: serial two, was serial one/);
});

test("lets one link alone have a port that two could mean", async (t) => {
  const usb = new FakeUsb(t);
  const first = supervised(t, { match: CH340 }, { roots: usb.roots });
  await usb.plug(A);
  await first.is("up");
  const second = supervised(t, { match: CH340 }, { roots: usb.roots });
  await second.is("failing");
  assert.match(second.supervisor.why, /is held by another link of this process$/);
  assert.equal(first.supervisor.mode, "up");
});

test("stays with its adapter when udev gives the name to an equal one", async (t) => {
  const usb = new FakeUsb(t);
  const a = await usb.plug(A);
  const link = supervised(t, { path: usb.byId() }, { roots: usb.roots });
  await link.is("up");
  assert.equal(link.supervisor.identity, `by-id ${usb.byId()}`);
  const b = await usb.plug(B);
  // The name is the other one's by now, and the link opens anew.
  await link.supervisor.lend(async () => {});
  await link.is("up");
  b.write("wrong;");
  a.write("right;");
  await link.hears("right;");
  assert.equal(link.heard.join(""), "right;");
  assert.match(link.warnings().join(), /is the name of .*1-1.* and .*1-2.*1-1\S* is opened/);
});

test("names the mend when a name by id is that of two adapters", async (t) => {
  const usb = new FakeUsb(t);
  await usb.plug(A);
  const b = await usb.plug(B);
  const link = supervised(t, { path: usb.byId() }, { roots: usb.roots });
  await link.is("up");
  b.write("newest;");
  await link.hears("newest;");
  const second = usb.byPath("1-2");
  assert.equal(
    link.supervisor.identity,
    `by-path ${second} because two adapters share their name by id`,
  );
  assert.match(link.warnings().join(), /is the name of .*1-2.* and .*1-1/);
  assert.ok(link.warnings().join().endsWith(`Say which: path = "${second}"`));
});
