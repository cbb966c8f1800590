// collect-garbage: makes the process it is loaded into collect its garbage on SIGUSR2, and tell.
// Path: watched-gateway → NODE_OPTIONS → [collect-garbage]. Touches: the process, stderr.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

process.on("SIGUSR2", () => {
  // What the first one frees of buffers, the second one gives back.
  collect();
  collect();
  process.stderr.write(`collected ${JSON.stringify(process.memoryUsage())}\n`);
});
