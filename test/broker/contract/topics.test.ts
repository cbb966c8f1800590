// topics.test: what topic names, filters and the cluster's prefixes promise.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SluiceError } from "#contract/errors";
import {
  assertTopicFilter,
  assertTopicName,
  cloudTopic,
  filterCovers,
  filterMatches,
  isFromTopic,
  isToTopic,
  NAME_PATTERN,
  parseCommandTopic,
  TOPIC_LIMITS,
} from "#contract/topics";

const RUNS = { seed: 20_260_104, numRuns: 1_000 } as const;

const INVALID = { name: "SluiceError", code: "TOPIC_INVALID" } as const;
const level = fc.constantFrom("", "a", "b", "sport", "$SYS", "é");
const topics = fc
  .array(level, { minLength: 1, maxLength: 5 })
  .map((levels) => levels.join("/"))
  .filter((topic) => topic !== "");
const names = fc.stringMatching(NAME_PATTERN);

test("lets topic names through that clause 4.7 allows", () => {
  for (const topic of [
    "a",
    "/",
    "a//b",
    " ",
    "$SYS/x",
    "ACCOUNTS",
    "é\uFEFF",
    "a".repeat(65_535),
  ]) {
    assert.doesNotThrow(() => assertTopicName(topic));
  }
});

test("refuses topic names that are empty, too long, too deep, ill-formed or hold a wildcard", () => {
  const refused: [string, RegExp][] = [
    ["", /^topic "" is empty$/],
    ["a\u0000", /holds U\+0000/],
    ["a\ud800", /lone surrogate/],
    ["a".repeat(65_536), /longer than 65535 bytes/],
    ["é".repeat(32_768), /longer than 65535 bytes/],
    ["/".repeat(TOPIC_LIMITS.levelsMax), /more than 100 levels/],
    ["a/+", /holds a wildcard/],
    ["a#", /holds a wildcard/],
  ];
  for (const [topic, message] of refused) {
    assert.throws(() => assertTopicName(topic), { ...INVALID, message });
  }
});

test("lets filters through whose wildcards are whole levels, # only the last", () => {
  for (const filter of ["#", "+", "a/#", "+/a/+/#", "/+", "+/", "$SYS/#", "$share/g/#"]) {
    assert.doesNotThrow(() => assertTopicFilter(filter));
  }
  for (const filter of ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "##", "++", "a\u0000/#"]) {
    assert.throws(() => assertTopicFilter(filter), INVALID);
  }
});

test("keeps its messages short however long the topic is", () => {
  const long = "x".repeat(60_000);
  for (const refuse of [
    () => assertTopicName(`${long}#`),
    () => assertTopicFilter(`${long}#`),
    () => assertTopicFilter(`${long}+`),
    () => assertTopicFilter("x".repeat(70_000)),
  ]) {
    assert.throws(refuse, (fault) => fault instanceof SluiceError && fault.message.length < 300);
  }
});

test("matches as the examples of clause 4.7 do", () => {
  const yes = ["sport/tennis/# sport/tennis", "sport/tennis/# sport/tennis/a/b", "sport/# sport"];
  yes.push(
    "# a/b",
    "sport/tennis/+ sport/tennis/a",
    "sport/+ sport/",
    "+/+ /finance",
    "/+ /finance",
  );
  yes.push("$SYS/# $SYS/", "$SYS/monitor/+ $SYS/monitor/Clients", "+ a", "a//b a//b", "+// a//");
  const no = [
    "sport/+ sport",
    "sport/tennis/+ sport/tennis/a/b",
    "+ /finance",
    "# $SYS",
    "+/a $SYS/a",
  ];
  no.push("a A", "a a/", "a/ a", "a/b a", "a a/b", "+ a/b", "sport/tennis/# sport");
  for (const pair of yes) assert.ok(filterMatches(...split(pair)), pair);
  for (const pair of no) assert.ok(!filterMatches(...split(pair)), pair);
});

test("matches every topic with itself, and with a filter made from it", () => {
  fc.assert(
    fc.property(
      topics,
      fc.array(fc.boolean()),
      fc.option(fc.nat({ max: 5 })),
      (topic, plus, cut) => {
        assert.ok(filterMatches(topic, topic));
        const levels = topic.split("/").map((text, index) => (plus[index] ? "+" : text));
        const filter = cut === null ? levels : [...levels.slice(0, cut), "#"];
        const hidden = topic.startsWith("$") && /^[+#]/.test(filter.join("/"));
        assert.equal(filterMatches(filter.join("/"), topic), !hidden);
      },
    ),
    RUNS,
  );
});

test("agrees with a regular expression made from the filter", () => {
  const filters = fc
    .array(fc.constantFrom("", "a", "b", "+", "sport"), { minLength: 1, maxLength: 4 })
    .chain((levels) => fc.boolean().map((hash) => [...levels, ...(hash ? ["#"] : [])].join("/")))
    .filter((filter) => filter !== "");
  fc.assert(
    fc.property(filters, topics, (filter, topic) => {
      const pattern = filter
        .replaceAll("+", "[^/]*")
        .replace(/\/#$/, "(/.*)?")
        .replace(/^#$/, ".*");
      const hidden = topic.startsWith("$") && filter.startsWith("+");
      assert.equal(filterMatches(filter, topic), !hidden && RegExp(`^${pattern}$`).test(topic));
    }),
    RUNS,
  );
});

test("reads the gateway and its local topic back out of a command topic", () => {
  fc.assert(
    fc.property(names, topics, (gateway, topic) => {
      assert.deepEqual(parseCommandTopic(`to/${gateway}/${topic}`), { gateway, topic });
    }),
    RUNS,
  );
});

test("takes nothing else for a command topic", () => {
  for (const topic of [
    "to/",
    "to/gw",
    "to/gw/",
    "to//a",
    "from/gw/a",
    "xto/gw/a",
    "to/-gw/a",
    "to/g w/a",
  ]) {
    assert.equal(parseCommandTopic(topic), undefined, topic);
  }
});

test("a filter covers another when it selects all that the other does", () => {
  const yes = ["# a/+/#", "+ a", "a/# a", "a/# a/b/#", "a/+/c a/b/c", "a/+ a/+", "$SYS/# $SYS/a"];
  const no = ["+ #", "a/+ a/#", "a/b a/+", "a a/b", "# $SYS/#", "+/x $SYS/x", "a/+/c a/b", "a/# +"];
  for (const pair of yes) assert.ok(filterCovers(...split(pair)), pair);
  for (const pair of no) assert.ok(!filterCovers(...split(pair)), pair);
});

test("no topic is selected by a filter and not by one that covers it", () => {
  const part = fc.constantFrom("", "a", "b", "+", "$SYS");
  const filters = fc
    .tuple(fc.array(part, { minLength: 1, maxLength: 4 }), fc.boolean())
    .map(([levels, isOpen]) => [...levels, ...(isOpen ? ["#"] : [])].join("/"))
    .filter((filter) => filter !== "");
  fc.assert(
    fc.property(filters, filters, topics, (wide, narrow, topic) => {
      fc.pre(filterCovers(wide, narrow) && filterMatches(narrow, topic));
      assert.ok(filterMatches(wide, topic), `${wide} covers ${narrow}, but not ${topic}`);
    }),
    { ...RUNS, maxSkipsPerRun: 10_000 },
  );
});

test("tells the two directions apart by their prefix alone", () => {
  assert.equal(cloudTopic("gw-1", "a/b"), "from/gw-1/a/b");
  assert.equal(cloudTopic("gw-1", "/"), "from/gw-1//");
  assert.deepEqual(["from/x", "from", "to/x", "a"].map(isFromTopic), [true, false, false, false]);
  assert.deepEqual(["to/x", "to", "from/x", "a"].map(isToTopic), [true, false, false, false]);
});

test("allows names that can stand in a topic, in a key and in a file name", () => {
  for (const name of ["a", "gw-001", "A.b_c-9", "x".repeat(63)]) assert.match(name, NAME_PATTERN);
  for (const name of ["", ".a", "-a", "_a", "a/b", "a+", "a{", "é", "a\n", "x".repeat(64)]) {
    assert.doesNotMatch(name, NAME_PATTERN);
  }
});

function split(pair: string): [string, string] {
  const [filter = "", topic = ""] = pair.split(" ");
  return [filter, topic];
}
