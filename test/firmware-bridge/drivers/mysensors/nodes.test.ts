// nodes.test: ids are given once, and what nodes said of themselves is remembered.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Nodes } from "../../../../firmware-bridge/drivers/mysensors/nodes.ts";

const recalled = (nodes: Nodes, taken: number[] = []) => {
  const next = new Nodes(taken);
  assert.ok(next.recall(JSON.parse(JSON.stringify(nodes.remembered()))));
  return next;
};

test("gives the lowest free id, and none that settings name or that was heard", () => {
  const nodes = new Nodes([2, 4]);
  nodes.take(1);
  nodes.note(3, "sketchName", "Relay");
  assert.equal(nodes.giveId(), 5);
  assert.equal(nodes.giveId(), 6);
});

test("gives no id twice through any number of restarts, and 254 at most", () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom("give", "restart", "hear"), { maxLength: 700 }),
      (acts) => {
        let nodes = new Nodes([7]);
        const given: number[] = [7];
        for (const act of acts) {
          if (act === "restart") nodes = recalled(nodes, [7]);
          if (act === "hear") nodes.note(9, "protocol", "2.3.2");
          const id = act === "give" ? nodes.giveId() : undefined;
          if (id !== undefined) given.push(id);
        }
        assert.equal(new Set(given).size, given.length);
        assert.ok(given.every((id) => id >= 1 && id <= 254));
      },
    ),
    { seed: 5, numRuns: 50 },
  );
  const nodes = new Nodes([]);
  for (let id = 1; id <= 254; id += 1) assert.equal(nodes.giveId(), id);
  assert.equal(nodes.giveId(), undefined);
});

test("remembers what a node said, the latest of each, and cuts what is too long", () => {
  const nodes = new Nodes([]);
  nodes.note(7, "sketchName", "Old");
  nodes.note(7, "sketchName", "x".repeat(100));
  nodes.noteChild(7, 2, 3, "Relay");
  nodes.noteChild(7, 1, 6, "Outside");
  nodes.noteChild(7, 2, 4, "Dimmer");
  assert.deepEqual(recalled(nodes).record(7), {
    id: 7,
    sketchName: "x".repeat(64),
    children: [
      { id: 1, sensor: 6, description: "Outside" },
      { id: 2, sensor: 4, description: "Dimmer" },
    ],
  });
});

test("says when there is something to write, and is quiet about what it knew", () => {
  const nodes = new Nodes([]);
  const isChangedBy = (change: () => unknown) => {
    nodes.isChanged = false;
    change();
    return nodes.isChanged;
  };
  assert.ok(isChangedBy(() => nodes.giveId()));
  assert.ok(isChangedBy(() => nodes.note(1, "sketchName", "Relay")));
  assert.ok(!isChangedBy(() => nodes.note(1, "sketchName", "Relay")));
  assert.ok(isChangedBy(() => nodes.noteChild(1, 1, 3, "")));
  assert.ok(!isChangedBy(() => nodes.noteChild(1, 1, 3, "")));
  assert.ok(!isChangedBy(() => nodes.take(9)));
});

test("takes nothing from a memory that is another's", () => {
  const nodes = new Nodes([]);
  for (const value of [null, 5, {}, { nodes: [{ id: 300, children: [] }] }, { nodes: {} }]) {
    assert.equal(nodes.recall(value), false);
  }
  assert.deepEqual(nodes.ids, []);
});
