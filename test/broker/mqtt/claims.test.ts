// claims.test: of CONNECTs with one client id the last on the bus has it, when the one before is over.
// Path: test. Touches: nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Will } from "#contract/session";
import { Claims } from "../../../broker/mqtt/claims.ts";
import type { ClientRights } from "../../../broker/mqtt/rights.ts";
import type { Notice } from "../../../broker/mqtt/routing.ts";

/** A cluster of two, whose bus carries a notice when the test lets it. */
function cluster() {
  const said: { from: string; notice: Notice }[] = [];
  const claims = new Map(["one", "two"].map((brokerId) => [brokerId, claimsOf(brokerId)]));
  const [one, two] = claims.values();
  assert.ok(one && two);
  return { one, two, carry };

  function claimsOf(brokerId: string): Claims {
    const notify = async (notice: Notice) => {
      said.push({ from: brokerId, notice });
    };
    return new Claims({ brokerId, routing: { notify } });
  }

  function carry(): void {
    for (const { from, notice } of said.splice(0)) {
      for (const [brokerId, to] of claims) {
        if (notice.kind === "connect") to.claimed(notice.clientId, notice.token, from === brokerId);
        if (notice.kind === "echo") to.heard(notice.token);
      }
    }
  }
}

async function isPending(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol();
  const turn = new Promise((resolve) => setImmediate(resolve, pending));
  return (await Promise.race([promise, turn])) === pending;
}

test("a claim is made when the bus has carried it", async () => {
  const { one, two, carry } = cluster();
  const claim = one.claim("meter", true);
  assert.ok(await isPending(claim));
  carry();
  assert.ok(one.isNewest("meter", await claim));
  assert.ok(!two.has("meter"), "no CONNECT is on its way in there");
});

test("of claims at two brokers both hold the last on the bus for the newest [MQTT-3.1.4-2]", async () => {
  const { one, two, carry } = cluster();
  const claims = [one.claim("meter", true), two.claim("meter", true)];
  carry();
  const [first, last] = await Promise.all(claims);
  assert.ok(first && last);
  for (const broker of [one, two]) {
    assert.deepEqual(
      [broker.isNewest("meter", first), broker.isNewest("meter", last)],
      [false, true],
    );
  }
});

test("a claim that ends leaves a newer one alone", async () => {
  const { one, carry } = cluster();
  const claims = [one.claim("meter", true), one.claim("meter", true)];
  carry();
  const [first, last] = await Promise.all(claims);
  assert.ok(first && last);
  one.end("meter", first);
  assert.ok(one.isNewest("meter", last));
  one.end("meter", last);
  assert.ok(!one.has("meter"));
});

test("all is heard when its echo is, and not before", async () => {
  const { one, carry } = cluster();
  const heard = one.hearAll();
  assert.ok(await isPending(heard));
  carry();
  await heard;
});

test("the other broker's word on the session, or its release, ends the wait for it", async () => {
  const { one } = cluster();
  for (const tell of ["told", "released"] as const) {
    const released = one.awaitRelease("meter");
    one[tell]("valve");
    assert.ok(await isPending(released));
    one[tell]("meter");
    assert.ok(!(await isPending(released)));
  }
});

test("a will is owed until its broker has done with the client, and taken once if that has died", () => {
  const { one } = cluster();
  const owed = (clientId: string, broker: string) => ({
    ...{ clientId, broker },
    will: { delaySeconds: 0 } as Will,
    rights: {} as ClientRights,
  });
  const lost = owed("valve", "two");
  one.owe(owed("meter", "two"));
  one.owe(lost);
  one.owe(owed("pump", "three"));
  one.released("meter");
  one.told("valve");
  assert.deepEqual(one.takeOwed("two"), [lost]);
  assert.deepEqual(one.takeOwed("two"), []);
});
