// secure-door: the TLS handshake of clients, and who their certificates say they are.
// Path: listeners → [secure-door] → session. Touches: certificate files, the socket it is given.

import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createServer, type Server, type TLSSocket, type TlsOptions } from "node:tls";
import { reasonOf, SluiceError } from "#contract/errors";
import { readTlsFiles } from "#runtime/files";
import type { ListenerSettings } from "#runtime/settings-schema";

/** What becomes of one handshake: a stream and the name that was proved, or the reason why not. */
export interface Handshake {
  readonly secured: (stream: Duplex, certificateName: string | undefined) => void;
  readonly refused: (reason: "tls" | "certificate", why: string) => void;
}

/** Takes sockets and makes each a TLS server's; listens on nothing itself. */
export class SecureDoor {
  readonly #server: Server;
  // tls.Server does not tell of which socket it made a TLSSocket; the asynchronous context does.
  readonly #handshakes = new AsyncLocalStorage<Handshake>();

  /** @throws SluiceError CERTIFICATE_UNREADABLE. */
  constructor(settings: ListenerSettings, handshakeSecondsMax: number) {
    const material = readTlsFiles(settings);
    const asksCertificate = material.ca !== undefined;
    this.#server = createSecureServer(settings, {
      ...material,
      minVersion: "TLSv1.2",
      requestCert: asksCertificate,
      // Judged by certificateFault: who shows none may still come in by a password.
      rejectUnauthorized: false,
      handshakeTimeout: handshakeSecondsMax * 1_000,
    });
    this.#server.on("tlsClientError", (error) => {
      this.#handshakes.getStore()?.refused("tls", reasonOf(error));
    });
    this.#server.on("secureConnection", (socket) => this.#secured(socket, asksCertificate));
  }

  secure(socket: Socket, handshake: Handshake): void {
    this.#handshakes.run(handshake, () => this.#server.emit("connection", socket));
  }

  #secured(socket: TLSSocket, asksCertificate: boolean): void {
    socket.on("error", ignore);
    const handshake = this.#handshakes.getStore();
    assert(handshake, "a TLS connection that never arrived");
    const fault = asksCertificate ? certificateFault(socket) : undefined;
    if (fault !== undefined) handshake.refused("certificate", fault);
    else handshake.secured(socket, socket.authorized ? commonName(socket) : undefined);
  }
}

function createSecureServer(settings: ListenerSettings, options: TlsOptions): Server {
  try {
    return createServer(options);
  } catch (cause) {
    // Readable files that OpenSSL refuses all the same: a key too small, an algorithm too old.
    const files = [settings.cert_file, settings.key_file, settings.ca_file].join(" ").trim();
    const message = `listener ${settings.protocol} ${settings.address} cannot use ${files}`;
    throw new SluiceError("CERTIFICATE_UNREADABLE", `${message}: ${reasonOf(cause)}`, { cause });
  }
}

function certificateFault(socket: TLSSocket): string | undefined {
  if (socket.authorized || socket.getPeerX509Certificate() === undefined) return undefined;
  return `its certificate is not good: ${reasonOf(socket.authorizationError)}`;
}

/** Undefined also where a certificate has several, which would leave it to chance who it is. */
function commonName(socket: TLSSocket): string | undefined {
  const name = socket.getPeerCertificate().subject?.CN;
  return typeof name === "string" && name !== "" ? name : undefined;
}

function ignore(): void {}
