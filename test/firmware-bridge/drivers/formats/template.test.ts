// template.test: what channels and values by template promise, by the codec of lines.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { says } from "../line-codec.ts";

test("puts what a line says into the channel, and the rest below it", () => {
  const settings = { format: "json", channel: "{sensor}" } as const;
  assert.deepEqual(says(settings, '{"sensor":"cellar","t":21.50,"h":40}\n'), [
    "cellar/t=21.50",
    "cellar/h=40",
  ]);
  assert.deepEqual(says({ format: "key-value", channel: "room-{n}/now" }, "n=7 t=21\n"), [
    "room-7/now/t=21",
  ]);
});

test("makes one message of a line with a template of its value", () => {
  const fields = { channel: "{sensor}/{name}", value: "{value}" };
  assert.deepEqual(says({ format: "json", ...fields }, '{"sensor":"a","name":"t","value":3.0}\n'), [
    "a/t=3.0",
  ]);
  const patterns = ["^(?<sensor>\\w+) (?<name>\\w+) (?<value>.+)$"];
  assert.deepEqual(says({ format: "regex", patterns, ...fields }, "a t 3.0\n"), ["a/t=3.0"]);
  const columns = ["sensor", "name"];
  const value = '{"value":{3}}';
  assert.deepEqual(says({ format: "csv", columns, channel: "{sensor}/{name}", value }, "a,t,3\n"), [
    'a/t={"value":3}',
  ]);
});

test("lets no value of a line widen the channel, or take one of the device's own topics", () => {
  const settings = { format: "json", channel: "{s}", value: "x" } as const;
  for (const [sensor, channel] of Object.entries({ "a/b": "a_b", "#": "_", set: "set_" })) {
    assert.deepEqual(says(settings, `{"s":"${sensor}"}\n`), [`${channel}=x`]);
  }
});

test("publishes as unparsed, and counts, what does not fill a template", () => {
  const lines: Record<string, string> = {
    '{"n":"t"}': "does not fill the channel {s}",
    '{"s":""}': "does not fill the channel {s}",
    '{"s":"a"}': "does not fill the value {v}",
    "{": "is not json",
  };
  for (const [line, reason] of Object.entries(lines)) {
    assert.deepEqual(says({ format: "json", channel: "{s}", value: "{v}" }, `${line}\n`), [
      `! a line ${reason}`,
      `unparsed=${line}`,
    ]);
  }
  assert.deepEqual(says({ format: "json", channel: "{s}" }, '{"s":"a","":1}\n'), [
    "! a line has a name that is no channel",
    'unparsed={"s":"a","":1}',
  ]);
});
