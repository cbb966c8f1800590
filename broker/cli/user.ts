// user: sluice user add, remove, list: who may log in.
// Path: main → [user] → users. Touches: the settings, the users file, stdin, stdout.

import { SluiceError } from "#contract/errors";
import { hashPassword } from "#runtime/passwords";
import { readSettings, SETTINGS_PATH } from "#runtime/settings";
import { putUser, readUsers, removeUser, userNameFault } from "#runtime/users";
import { type Command, nearest, readArguments, refuseMore } from "./command.ts";
import { readNewPassword } from "./password-input.ts";

const OPTIONS = { config: { type: "string" }, users: { type: "string" } } as const;

export const user: Command = {
  summary: "adds, removes and lists who may log in",
  usage: `usage: sluice user add NAME [--password-file FILE]
       sluice user remove NAME
       sluice user list [--json]

Adding a user who is there gives them another password. The password is the first line of the
file, or of stdin, or is asked for twice on a terminal. A running broker takes changes up at the
next login.

  --password-file FILE  whose first line is the password
  --json                a list of objects with a name each
  --config FILE         the settings, whose [access] names the users file; default ${SETTINGS_PATH}
  --users FILE          the users file, without a settings file`,
  run([action, ...args]) {
    if (action === "add") return add(args);
    if (action === "remove") return remove(args);
    if (action === "list") return list(args);
    const near = nearest(action ?? "", ["add", "remove", "list"]);
    const hint =
      action === undefined ? "" : `, not ${JSON.stringify(action)}; did you mean ${near}?`;
    throw new SluiceError("USAGE", `user can add, remove and list${hint}`);
  },
};

async function add(args: readonly string[]): Promise<number> {
  const options = { ...OPTIONS, "password-file": { type: "string" } } as const;
  const { values, positionals } = readArguments(args, options);
  const name = nameOf(positionals);
  const path = usersFileOf(values);
  const password = await readNewPassword(values["password-file"]);
  const done = putUser(path, name, await hashPassword(password));
  const what = done === "added" ? "is added to" : "has another password in";
  process.stdout.write(`${name} ${what} ${path}\n`);
  return 0;
}

async function remove(args: readonly string[]): Promise<number> {
  const { values, positionals } = readArguments(args, OPTIONS);
  const name = nameOf(positionals);
  const path = usersFileOf(values);
  if (removeUser(path, name)) {
    process.stdout.write(`${name} is removed from ${path}\n`);
    return 0;
  }
  const near = nearest(name, [...readUsers(path).keys()]);
  const hint = near === undefined ? "it has no users" : `the nearest is ${JSON.stringify(near)}`;
  process.stderr.write(`sluice: no user ${JSON.stringify(name)} in ${path}; ${hint}\n`);
  return 1;
}

async function list(args: readonly string[]): Promise<number> {
  const options = { ...OPTIONS, json: { type: "boolean" } } as const;
  const { values, positionals } = readArguments(args, options);
  refuseMore(positionals);
  const names = [...readUsers(usersFileOf(values)).keys()];
  const text = values.json
    ? `${JSON.stringify(names.map((name) => ({ name })))}\n`
    : names.map((name) => `${name}\n`).join("");
  process.stdout.write(text);
  return 0;
}

function nameOf([name, ...more]: readonly string[]): string {
  if (name === undefined) throw new SluiceError("USAGE", "the user's name is missing");
  refuseMore(more);
  const fault = userNameFault(name);
  if (fault !== undefined) throw new SluiceError("USAGE", `the user's name ${fault}`);
  return name;
}

function usersFileOf(values: { config?: string | undefined; users?: string | undefined }): string {
  return values.users ?? readSettings(values.config ?? SETTINGS_PATH).access.users_file;
}
