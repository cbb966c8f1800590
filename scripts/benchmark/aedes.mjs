// aedes: vanilla Aedes as its documentation starts it, in memory, on the port of its one argument.
// Path: brokers → [aedes]. Touches: a loopback socket.
//
// Plain JavaScript: what strips types would stand in its memory and its start.

import { createServer } from "node:net";
import { Aedes } from "aedes";

const broker = await Aedes.createBroker();
createServer(broker.handle).listen(Number(process.argv[2]), "127.0.0.1");
// Node writes its compile cache when it ends by itself.
process.on("SIGTERM", () => process.exit());
