import assert from "node:assert/strict";
import { test } from "node:test";
import { connectAsync } from "mqtt";
import { GATEWAY_TOPICS } from "#contract/topics";
import { freePlace, startGateway } from "../journeys/support/gateway.ts";
import { waitFor } from "../support/wait-for.ts";

const NOT_AUTHORIZED = 0x87;

test("no client speaks for the gateway, whose word the cloud takes for its state", async (t) => {
  const place = await freePlace(t);
  const gateway = startGateway(t, place);
  await waitFor("the gateway", gateway.status, 15_000);
  const url = `mqtt://127.0.0.1:${place.mqttPort}`;
  const client = await connectAsync(url, { protocolVersion: 5 });
  t.after(() => client.endAsync(true));
  for (const topic of Object.values(GATEWAY_TOPICS)) {
    const refused = client.publishAsync(topic, "online", { qos: 1, retain: true });
    await assert.rejects(refused, { code: NOT_AUTHORIZED }, topic);
  }
  await client.publishAsync("sluice/other", "x", { qos: 1 });
  const will = { topic: GATEWAY_TOPICS.status, payload: Buffer.from("offline") };
  const willed = connectAsync(url, { protocolVersion: 5, will, reconnectPeriod: 0 });
  await assert.rejects(willed, { code: NOT_AUTHORIZED });
});
