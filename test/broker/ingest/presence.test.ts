import assert from "node:assert/strict";
import { test } from "node:test";
import { presenceMessage, presenceOf } from "../../../broker/ingest/presence.ts";

test("a gateway is offline when it was silent for too long, or said that it goes", () => {
  assert.deepEqual(presenceOf(75_000, "", 75_000), { state: "online", why: "" });
  assert.match(presenceOf(75_001, "", 75_000).why, /more than 75 s/);
  const left = { state: "offline", why: "stopped on request" };
  assert.deepEqual(presenceOf(0, "stopped on request", 75_000), left);
});

test("the presence is a retained document under the gateway's own prefix", () => {
  const message = presenceMessage("gw-001", { state: "online", why: "" }, 0);
  assert.deepEqual(
    [message.topic, message.qos, message.retain],
    ["from/gw-001/sluice/status", 1, true],
  );
  assert.deepEqual(JSON.parse(new TextDecoder().decode(message.payload)), {
    state: "online",
    why: "",
    at: "1970-01-01T00:00:00.000Z",
  });
});
