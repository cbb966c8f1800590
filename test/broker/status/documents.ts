// documents: what brokers may say of themselves, for the tests of who shows it.
// Path: test. Touches: nothing.

import type { GatewayStatus, LaneStatus, StatusDocument } from "#contract/status";

export const LANE: LaneStatus = {
  lane: "default",
  epoch: 1,
  lastSeq: 120_394,
  position: 119_190,
  waitingMessages: 1_204,
  waitingBytes: 1_258_291,
  oldestWaitingAtMs: null,
  tailMessages: 600,
  tailBytes: 65_536,
  bytesMax: 1_073_741_824,
  arrivingPerSecond: 10,
  leavingPerSecond: 0,
  ageSecondsMax: null,
  whenFull: "reject",
  trouble: null,
  dropped: {},
};

/** One of which the cluster has all. */
export const GATEWAY_STATUS: GatewayStatus = {
  gateway: "gw-001",
  state: "online",
  why: "",
  behindMs: 0,
  ingestedMessages: 0,
  repeatedMessages: 0,
  missingMessages: {},
  lostMessages: 0,
  deadLetters: 0,
};

/** A gateway that does all that it is there for. */
export function gatewayDocument(nowMs: number): StatusDocument {
  return {
    role: "gateway",
    name: "gw-001",
    version: "1.2.3",
    startedAtMs: nowMs - 3_600_000,
    ready: true,
    reasons: [],
    connections: 12,
    outbox: [{ ...LANE, oldestWaitingAtMs: nowMs - 192_000 }],
    uplink: {
      cloud: "cloud.example.com:6380",
      state: "online",
      why: "",
      sinceMs: nowMs - 60_000,
      sentMessages: 119_190,
      receivedCommands: 3,
      rewinds: 0,
    },
  };
}

/** A broker of the cluster with one gateway online and one silent. */
export function cloudDocument(nowMs: number): StatusDocument {
  const online = { ...GATEWAY_STATUS, ingestedMessages: 1_234 };
  const offline: GatewayStatus = {
    ...{ ...GATEWAY_STATUS, gateway: "gw-002", state: "offline", why: "silent for 80 s" },
    ...{ missingMessages: { limit: 80, forgotten: 3 }, lostMessages: 5, deadLetters: 2 },
    behindMs: 65_000,
  };
  return {
    role: "cloud",
    name: "cloud-1",
    version: "1.2.3",
    startedAtMs: nowMs - 5_000,
    ready: true,
    reasons: [],
    connections: 1,
    ingest: { partitionsOwned: 8, partitions: 16, deadLetters: 3, gateways: [online, offline] },
  };
}
