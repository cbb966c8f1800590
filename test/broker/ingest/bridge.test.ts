import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SluiceError } from "#contract/errors";
import type { Message } from "#contract/message";
import { filterMatches, NAME_PATTERN, TOPIC_LIMITS } from "#contract/topics";
import { bridgedMessage, originOf } from "../../../broker/ingest/bridge.ts";
import type { LandingEntry } from "../../../broker/ingest/landing.ts";

const RUNS = { seed: 20_261_125, numRuns: 2_000 } as const;

const level = fc.constantFrom("", ".", "..", "$SYS", "from", "to", "gw-002", "a", "+", "#", "a#");
const topics = fc.oneof(
  fc.array(level, { maxLength: 6 }).map((levels) => levels.join("/")),
  fc.string({ unit: "binary", maxLength: 40 }),
);
const names = fc.stringMatching(NAME_PATTERN);
/** What somebody might call a gateway to get out of its prefix. */
const oddNames = fc.oneof(
  fc.constantFrom(
    "",
    ".",
    "..",
    "/",
    "a/b",
    "+",
    "#",
    "gw-001/../gw-002",
    "$SYS",
    "gw 1",
    "g\u0000",
  ),
  fc.string({ unit: "binary", maxLength: 20 }),
);

function entryOf(gateway: string, lane = "default"): LandingEntry {
  return { gateway, id: "1-0", lane, epoch: 7, sentMs: undefined, frame: new Uint8Array() };
}

function messageOn(topic: string): Message {
  return { topic, payload: new Uint8Array(), qos: 1, retain: false, takenAtMs: 1 };
}

/** The topic in the cluster; undefined where it is refused. */
function topicOf(gateway: string, local: string): string | undefined {
  try {
    return bridgedMessage(originOf(entryOf(gateway)), 1, messageOn(local)).topic;
  } catch (fault) {
    assert.ok(fault instanceof SluiceError, String(fault));
    return undefined;
  }
}

test("no topic of a gateway gets out of the gateway's own prefix, whatever it is", () => {
  const property = fc.property(names, topics, (gateway, local) => {
    const topic = topicOf(gateway, local);
    if (topic === undefined) return;
    assert.equal(topic, `from/${gateway}/${local}`);
    assert.ok(filterMatches(`from/${gateway}/#`, topic));
    assert.ok(!filterMatches("$SYS/#", topic) && !filterMatches("to/#", topic));
    // Nobody who listens to another gateway alone hears it.
    assert.ok(!filterMatches(`from/${gateway}x/#`, topic));
    assert.ok(local !== "" && !["+", "#", "\u0000"].some((it) => local.includes(it)));
  });
  fc.assert(property, RUNS);
});

test("topics that look like a way out are names like any other", () => {
  for (const local of ["../x", "/x", "x//y", "/", "$SYS/x", "from/gw-002/x", "to/gw-002/x"]) {
    assert.equal(topicOf("gw-001", local), `from/gw-001/${local}`);
  }
});

test("a gateway whose name could be another topic level, or a wildcard, has no topics at all", () => {
  const property = fc.property(oddNames, topics, (gateway, local) => {
    fc.pre(!NAME_PATTERN.test(gateway));
    assert.equal(topicOf(gateway, local), undefined);
  });
  fc.assert(property, RUNS);
});

test("what a gateway may publish to fits under its prefix, but for the bytes of the prefix", () => {
  const deep = Array.from({ length: TOPIC_LIMITS.levelsMax }, () => "a").join("/");
  assert.equal(topicOf("gw-001", deep), `from/gw-001/${deep}`);
  assert.equal(topicOf("gw-001", `${deep}/a`), undefined);
  const longest = TOPIC_LIMITS.bytesMax - "from/gw-001/".length;
  assert.ok(topicOf("gw-001", "é".repeat(longest / 2)));
  assert.equal(topicOf("gw-001", `${"a".repeat(longest)}a`), undefined);
});

test("a lane or an epoch that the cluster could not name is refused", () => {
  for (const lane of ["", "a b", "a/b", "x".repeat(64)]) {
    assert.throws(() => originOf(entryOf("gw-001", lane)), { code: "FRAME_INVALID" });
  }
  for (const epoch of [Number.NaN, -1, 1.5, 2 ** 53]) {
    const entry = { ...entryOf("gw-001"), epoch };
    assert.throws(() => originOf(entry), { code: "FRAME_INVALID" });
  }
});
