// certificates: a throw-away CA, the certificate of localhost, and one for each gateway.
// Path: chain → [certificates]. Touches: a folder, openssl.

import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

const VALID_DAYS = 365;
const LEFT_MS_LEAST = 24 * 3_600_000;

export interface Pair {
  readonly cert: string;
  readonly key: string;
}

export interface Certificates {
  readonly ca: string;
  /** Certificate and key in one file, as HAProxy reads them. */
  readonly serverPem: string;
  readonly server: Pair;
  /** That of the first gateway. */
  readonly gateway: Pair;
}

/** The certificates in `folder`, made anew where they are missing or end within a day. */
export async function ensureCertificates(
  folder: string,
  ...gateways: readonly [string, ...string[]]
): Promise<Certificates> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeFile(join(folder, "openssl.cnf"), OPENSSL_CONFIG);
  const ca = pair(folder, "ca");
  if (!(await isGood(ca))) {
    const authority = [
      "basicConstraints=critical,CA:TRUE",
      "keyUsage=critical,keyCertSign,cRLSign",
    ];
    await issue(ca, "Sluice throw-away CA", authority);
    // Whatever the old CA signed is worth nothing now.
    await issueServer(folder, ca);
    for (const gateway of gateways) await issueClient(folder, gateway);
  }
  const server = pair(folder, "server");
  if (!(await isGood(server))) await issueServer(folder, ca);
  for (const gateway of gateways) {
    if (!(await isGood(pair(folder, gateway)))) await issueClient(folder, gateway);
  }
  return {
    ca: ca.cert,
    serverPem: join(folder, "server.pem"),
    server,
    gateway: pair(folder, gateways[0]),
  };
}

// Our own, so that the machine's openssl.cnf adds no extensions of its own.
const OPENSSL_CONFIG = "[req]\ndistinguished_name = dn\n[dn]\n";

/** A client certificate with CN `name`, signed by the CA that is in `folder` already. */
export async function issueClient(folder: string, name: string): Promise<Pair> {
  const client = pair(folder, name);
  await issue(client, name, ["extendedKeyUsage=clientAuth"], pair(folder, "ca"));
  return client;
}

async function issueServer(folder: string, ca: Pair): Promise<void> {
  const server = pair(folder, "server");
  const extensions = ["subjectAltName=DNS:localhost,IP:127.0.0.1", "extendedKeyUsage=serverAuth"];
  await issue(server, "localhost", extensions, ca);
  const both = (await readFile(server.cert, "utf8")) + (await readFile(server.key, "utf8"));
  await writeFile(join(folder, "server.pem"), both, { mode: 0o600 });
}

/** Where the certificate of that name lies. */
export function pair(folder: string, name: string): Pair {
  return { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
}

async function isGood({ cert, key }: Pair): Promise<boolean> {
  if (!existsSync(cert) || !existsSync(key)) return false;
  const endsAtMs = Date.parse(new X509Certificate(await readFile(cert)).validTo);
  return endsAtMs - Date.now() > LEFT_MS_LEAST;
}

async function issue(
  { cert, key }: Pair,
  name: string,
  extensions: string[],
  ca?: Pair,
): Promise<void> {
  const args = ["req", "-config", join(dirname(cert), "openssl.cnf"), "-x509", "-nodes"];
  args.push("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256");
  args.push("-days", String(VALID_DAYS), "-subj", `/CN=${name}`, "-keyout", key, "-out", cert);
  if (ca) args.push("-CA", ca.cert, "-CAkey", ca.key, "-addext", "basicConstraints=CA:FALSE");
  for (const extension of extensions) args.push("-addext", extension);
  await run("openssl", args);
}
