// reference: the inventory whose rendering is checked in: two brokers, a landing Redis and its spare.
// Path: [reference] → render → haproxy.cfg. Touches: nothing.

import type { HaproxyInventory } from "./render.ts";

export const REFERENCE_INVENTORY: HaproxyInventory = {
  log: "stdout format raw daemon",
  connectionsMax: 20_000,
  runAs: { user: "haproxy", group: "haproxy" },
  adminSocket: "/run/haproxy/admin.sock",
  metrics: "127.0.0.1:8405",
  handshakeSecondsMax: 10,
  mqtts: { bind: ":8883", certificate: "/etc/haproxy/sluice/server.pem" },
  wss: { bind: ":8084", certificate: "/etc/haproxy/sluice/server.pem" },
  brokers: [
    { name: "cloud-1", mqtt: "10.0.0.11:1883", ws: "10.0.0.11:8083" },
    { name: "cloud-2", mqtt: "10.0.0.12:1883", ws: "10.0.0.12:8083" },
  ],
  landing: {
    bind: ":6380",
    certificate: "/etc/haproxy/sluice/server.pem",
    gatewayCa: "/etc/haproxy/sluice/gateways-ca.pem",
    healthUser: "health",
    redis: [
      { name: "landing-1", address: "10.0.0.21:6379" },
      { name: "landing-2", address: "10.0.0.22:6379", backup: true },
    ],
  },
};
