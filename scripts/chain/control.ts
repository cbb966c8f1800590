// control: how scripts/start in another terminal asks the one that runs.
// Path: main ↔ [control] ↔ main. Touches: a unix socket in the chain's folder.

import { rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { ChainFailure } from "./failure.ts";
import type { ChainFolder } from "./folder.ts";
import { runningPid } from "./run-file.ts";

/** Answers each request, one line, with text; what `answer` throws is the answer, too. */
export function startControl(
  folder: ChainFolder,
  answer: (request: string) => Promise<string>,
): Promise<() => void> {
  const server = createServer((socket) => void serve(socket, answer));
  // Left by one that was killed; nobody else runs here, or the folder would not be ours.
  rmSync(folder.controlSocket, { force: true });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(folder.controlSocket, () => resolve(() => server.close()));
  });
}

async function serve(socket: Socket, answer: (request: string) => Promise<string>): Promise<void> {
  socket.on("error", () => socket.destroy());
  for await (const request of createInterface({ input: socket })) {
    const text = await answer(request).catch((fault: unknown) =>
      fault instanceof Error ? fault.message : String(fault),
    );
    socket.end(`${text}\n`);
    return;
  }
}

/**
 * The answer of the chain that runs in `folder`.
 * @throws ChainFailure when none does.
 */
export function ask(folder: ChainFolder, request: string): Promise<string> {
  const pid = runningPid(folder);
  if (pid === undefined) throw new ChainFailure(`nothing runs in ${folder.path}`);
  return new Promise((resolve, reject) => {
    const socket = connect(folder.controlSocket, () => socket.write(`${request}\n`));
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk) => {
      text += chunk;
    });
    socket.once("end", () => resolve(text.trimEnd()));
    socket.once("error", () =>
      reject(new ChainFailure(`pid ${pid} does not answer at ${folder.controlSocket}`)),
    );
  });
}
