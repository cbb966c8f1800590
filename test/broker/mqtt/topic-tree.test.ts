// topic-tree.test: a topic tree finds what looking at every filter would find.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { filterMatches } from "#contract/topics";
import { TopicTree } from "../../../broker/mqtt/topic-tree.ts";
import {
  ALL_TOPICS,
  DEEP_TOPICS,
  heapBytes,
  LEFT_OVER_BYTES_MAX,
  topicFilter,
} from "./arbitraries.ts";

const change = fc.record({
  isAdded: fc.boolean(),
  filter: topicFilter,
  value: fc.constantFrom("1", "2", "3"),
});

/** What the filters one by one say: a value once for each filter that selects the topic. */
function naiveMatch(all: ReadonlyMap<string, ReadonlySet<string>>, topic: string): string[] {
  return [...all].flatMap(([filter, values]) => (filterMatches(filter, topic) ? [...values] : []));
}

test("finds the values of exactly the filters that select a topic, whatever came and went", () => {
  const property = fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
    const tree = new TopicTree<string>();
    const all = new Map<string, Set<string>>();
    for (const { isAdded, filter, value } of changes) {
      const values = all.get(filter) ?? new Set();
      all.set(filter, values);
      if (isAdded) tree.add(filter, value);
      else tree.remove(filter, value);
      if (isAdded) values.add(value);
      else values.delete(value);
    }
    for (const topic of ALL_TOPICS) {
      assert.deepEqual(tree.match(topic).sort(), naiveMatch(all, topic).sort(), topic);
    }
    for (const [filter, values] of all) for (const value of values) tree.remove(filter, value);
    for (const topic of ALL_TOPICS) assert.deepEqual(tree.match(topic), []);
  });
  fc.assert(property, { seed: 1, numRuns: 500 });
});

test("removing what is not there leaves what is there", () => {
  const tree = new TopicTree<string>();
  tree.add("a/+/c", "kept");
  for (const filter of ["a", "a/+", "a/+/c/d", "a/+/#", "+/+/c", "x/#"])
    tree.remove(filter, "kept");
  tree.remove("a/+/c", "other");
  assert.deepEqual(tree.match("a/b/c"), ["kept"]);
});

test("nothing is left of filters that are gone", () => {
  const tree = new TopicTree<string>();
  const filters = DEEP_TOPICS.flatMap((topic) => [topic, `${topic}/#`, `+/${topic}`]);
  const before = heapBytes();
  for (const filter of filters) tree.add(filter, "value");
  assert.ok(heapBytes() - before > 20 * LEFT_OVER_BYTES_MAX);
  for (const filter of filters) tree.remove(filter, "value");
  assert.ok(heapBytes() - before < LEFT_OVER_BYTES_MAX);
  assert.deepEqual(tree.match(DEEP_TOPICS[0] ?? ""), []);
});
