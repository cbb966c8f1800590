// main: prints haproxy.cfg for the reference inventory.
// Path: reference → render → [main] → haproxy.cfg. Touches: stdout.
//
//   node haproxy/main.ts > haproxy/haproxy.cfg

import { REFERENCE_INVENTORY } from "./reference.ts";
import { renderHaproxy } from "./render.ts";

process.stdout.write(renderHaproxy(REFERENCE_INVENTORY));
