// aedes-persistence-level: the one export of that package, which ships no types.
// Path: gateway. Touches: nothing.

declare module "aedes-persistence-level" {
  /** The persistence in `database`, a LevelDB with text keys and buffers as values. */
  function aedesPersistenceLevel(database: object): object;

  export = aedesPersistenceLevel;
}
