// certificates: throw-away certificates for tests, made by the openssl command.
// Path: tests. Touches: the folder that it is given.

import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export interface Pair {
  readonly cert: string;
  readonly key: string;
}

const LEAF = "basicConstraints=critical,CA:FALSE";

/** The paths of the PEM files. */
export interface Certificates {
  readonly ca: string;
  readonly serverCert: string;
  readonly serverKey: string;
  readonly clients: Readonly<Record<string, Pair>>;
}

/**
 * Makes, in a folder that is there, a CA of its own, a server certificate for localhost, 127.0.0.1
 * and ::1, and a client certificate for each of the common names.
 */
export async function makeCertificates(
  folder: string,
  { clients }: { clients: readonly string[] },
): Promise<Certificates> {
  const ca = await makePair(join(folder, "ca"), "test CA", [
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=critical,keyCertSign,cRLSign",
  ]);
  const server = await makePair(
    join(folder, "server"),
    "localhost",
    [LEAF, "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1", "extendedKeyUsage=serverAuth"],
    ca,
  );
  const pairs: Record<string, Pair> = {};
  for (const [index, name] of clients.entries()) {
    const base = join(folder, `client-${index}`);
    pairs[name] = await makePair(base, name, [LEAF, "extendedKeyUsage=clientAuth"], ca);
  }
  return { ca: ca.cert, serverCert: server.cert, serverKey: server.key, clients: pairs };
}

async function makePair(
  base: string,
  name: string,
  extensions: readonly string[],
  ca?: Pair,
): Promise<Pair> {
  const pair = { cert: `${base}.crt`, key: `${base}.key` };
  // Of its own, since that of the machine adds extensions.
  await writeFile(`${base}.cnf`, "[req]\ndistinguished_name = name\n[name]\n");
  const subject = `/CN=${name.replace(/[\\/+=]/g, "\\$&")}`;
  await run("openssl", [
    ...["req", "-x509", "-days", "2", "-nodes", "-utf8", "-subj", subject],
    ...["-config", `${base}.cnf`],
    // Elliptic keys are made in no time.
    ...["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
    ...["-keyout", pair.key, "-out", pair.cert],
    ...extensions.flatMap((extension) => ["-addext", extension]),
    ...(ca ? ["-CA", ca.cert, "-CAkey", ca.key] : []),
  ]);
  return pair;
}
