// ingest-process: an ingest as a process of its own, which a test can freeze; says what it hands on.
// Path: tests → [ingest-process] → broker/ingest. Touches: two Redis, stdout.

import { writeSync } from "node:fs";
import { createLog } from "#runtime/log";
import { Metrics } from "#runtime/metrics";
import { Ingest } from "../../../broker/ingest/ingest.ts";

const [landing = "", cluster = "", leaseSeconds] = process.argv.slice(2);
const log = createLog({ level: "error", process: "test" });
log.level = "silent";
const ingest = new Ingest({
  landing: { url: landing },
  cluster: { url: cluster },
  settings: {
    ...{ lease_seconds: Number(leaseSeconds), tail_seconds_max: 600 },
    ...{ gateway_silent_seconds_max: 75, commands_max: 10, gateway_bytes_max: 268_435_456 },
  },
  publisher: () => (message) => {
    if (message.topic.endsWith("/t"))
      writeSync(1, `${new TextDecoder().decode(message.payload)}\n`);
    return undefined;
  },
  hold: () => undefined,
  log,
  metrics: new Metrics(),
});
await ingest.run();
