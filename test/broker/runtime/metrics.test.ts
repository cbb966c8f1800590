// metrics.test: what counters and gauges promise to who scrapes them.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Metrics } from "#runtime/metrics";

test("shows a counter that never counted as 0, with its help and its type", () => {
  const metrics = new Metrics();
  metrics.counter("sluice_x_total", "What x is.");
  assert.equal(
    metrics.text(),
    "# HELP sluice_x_total What x is.\n# TYPE sluice_x_total counter\nsluice_x_total 0\n",
  );
});

test("counts by labels and sums over them", () => {
  const metrics = new Metrics();
  const count = metrics.counter("sluice_x_total", "x");
  count({ lane: "a" });
  count({ lane: "a" }, 4);
  count({ lane: "b" });
  assert.match(metrics.text(), /^sluice_x_total\{lane="a"\} 5\nsluice_x_total\{lane="b"\} 1\n/m);
  assert.equal(metrics.total("sluice_x_total"), 6);
  assert.equal(metrics.total("sluice_never_total"), 0);
});

test("adds to a tally what a counter of the same labels adds to, and shows it from the start", () => {
  const metrics = new Metrics();
  const tally = metrics.tally("sluice_x_total", "x", { qos: "0" });
  assert.match(metrics.text(), /^sluice_x_total\{qos="0"\} 0$/m);
  tally.add();
  tally.add(4);
  metrics.counter("sluice_x_total", "x")({ qos: "0" }, 2);
  metrics.tally("sluice_x_total", "x", { qos: "1" }).add();
  assert.equal(metrics.tally("sluice_x_total", "x", { qos: "0" }), tally);
  assert.deepEqual([tally.count, metrics.total("sluice_x_total")], [7, 8]);
  assert.match(metrics.text(), /^sluice_x_total\{qos="0"\} 7\nsluice_x_total\{qos="1"\} 1$/m);
});

test("takes the same counter for the same name", () => {
  const metrics = new Metrics();
  metrics.counter("sluice_x_total", "x")();
  metrics.counter("sluice_x_total", "x")();
  assert.equal(metrics.total("sluice_x_total"), 2);
  assert.equal(metrics.text().match(/# TYPE/g)?.length, 1);
});

test("asks a gauge each time that somebody looks, and only then", () => {
  const metrics = new Metrics();
  let asked = 0;
  metrics.gauge("sluice_y", "y", () => ++asked);
  metrics.gauges("sluice_z", "z", () => [
    [{ lane: "a" }, 1.5],
    [{ lane: "b", why: "c" }, 2],
  ]);
  assert.equal(asked, 0);
  assert.match(metrics.text(), /^sluice_y 1$/m);
  assert.match(metrics.text(), /^sluice_y 2$/m);
  assert.match(metrics.text(), /^sluice_z\{lane="a"\} 1\.5\nsluice_z\{lane="b",why="c"\} 2$/m);
});

test("calls what is counted elsewhere a counter, and asks for it at each look", () => {
  const metrics = new Metrics();
  let bytes = 7;
  metrics.counters("sluice_read_bytes_total", "Read.", () => [[{ link: "a" }, bytes]]);
  assert.match(metrics.text(), /# TYPE sluice_read_bytes_total counter\n.*\{link="a"\} 7\n/);
  bytes = 8;
  assert.match(metrics.text(), /\{link="a"\} 8\n/);
});

test("writes numbers as Prometheus reads them", () => {
  const metrics = new Metrics();
  const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e21, 0.1];
  metrics.gauges("sluice_z", "z", () => values.map((value, index) => [{ n: `${index}` }, value]));
  const written = [...metrics.text().matchAll(/\} (\S+)$/gm)].map((match) => match[1]);
  assert.deepEqual(written, ["NaN", "+Inf", "-Inf", "1e+21", "0.1"]);
});

test("keeps each sample on its line, whatever a label holds", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (label) => {
      const metrics = new Metrics();
      metrics.counter("sluice_x_total", "x")({ label });
      const [, , sample = "", end] = metrics.text().split("\n");
      assert.equal(end, "");
      const quoted = /^sluice_x_total\{label="((?:[^"\\\n]|\\[\\"n])*)"\} 1$/s.exec(sample)?.[1];
      const read = quoted?.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
      assert.equal(read, label);
    }),
    { seed: 20_260_203, numRuns: 1_000 },
  );
});
