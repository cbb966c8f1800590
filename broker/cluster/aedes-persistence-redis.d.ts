// aedes-persistence-redis: the one export of that package, which ships no types.
// Path: cluster. Touches: nothing.

declare module "aedes-persistence-redis" {
  import type { Redis } from "ioredis";

  interface Options {
    readonly conn: Redis;
    /** How many queued messages a reconnecting session is sent; the rest waits for the next time. */
    readonly maxSessionDelivery: number;
  }

  function aedesPersistenceRedis(options: Options): object;

  export = aedesPersistenceRedis;
}
