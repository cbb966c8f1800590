// credentials: as whom each client is at the broker, by the settings.
// Path: gateway → [credentials]. Touches: the files of the secrets.

import { readSecret } from "#runtime/files";
import type { BrokerDoor } from "../../driver.ts";
import type { MqttSnSettings, PredefinedSettings } from "./settings.ts";

export interface User {
  readonly username: string | undefined;
  readonly password: string | undefined;
}

interface Listed {
  readonly user: User | undefined;
  readonly predefined: PredefinedSettings;
}

export class Credentials {
  readonly #listed: ReadonlyMap<string, Listed>;
  readonly #others: User;

  /** Reads the secrets' files once; @throws SluiceError CERTIFICATE_UNREADABLE. */
  constructor(clients: MqttSnSettings["clients"], { username, password }: BrokerDoor) {
    this.#others = { username, password };
    this.#listed = new Map(
      clients.map((client) => {
        const { client_id, predefined, password_file } = client;
        const password = password_file === undefined ? undefined : readSecret(password_file);
        const user =
          client.username === undefined ? undefined : { username: client.username, password };
        return [client_id, { user, predefined }];
      }),
    );
  }

  isListed(clientId: string): boolean {
    return this.#listed.has(clientId);
  }

  of(clientId: string): User {
    return this.#listed.get(clientId)?.user ?? this.#others;
  }

  predefined(clientId: string): PredefinedSettings {
    return this.#listed.get(clientId)?.predefined ?? [];
  }
}
