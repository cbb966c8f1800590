// password-input: takes a password from a file, a pipe or a person, and never from an argument.
// Path: user, tail → [password-input]. Touches: stdin, stderr, the password's file.

import type { ReadStream } from "node:tty";
import { SluiceError } from "#contract/errors";
import { readSecret } from "#runtime/files";
import { PASSWORD_LIMITS } from "#runtime/passwords";

/** From the file if one is named, else from stdin: its first line, or, on a terminal, asked twice. */
export async function readNewPassword(file: string | undefined): Promise<string> {
  if (file !== undefined) return readSecret(file);
  if (!process.stdin.isTTY) return readPiped();
  const [first, second] = await askHidden(process.stdin, ["password: ", "again: "]);
  if (first !== second) {
    throw new SluiceError("USAGE", "the two passwords differ; nothing was changed");
  }
  return first ?? "";
}

async function readPiped(): Promise<string> {
  let text = "";
  process.stdin.setEncoding("utf8");
  for await (const chunk of process.stdin) {
    text += chunk;
    if (text.length > PASSWORD_LIMITS.bytesMax || text.includes("\n")) break;
  }
  const [line = ""] = text.split(/\r?\n/);
  if (line === "") throw new SluiceError("USAGE", "stdin holds no password on its first line");
  return line;
}

/** What a key on the terminal does to the line that is being typed. */
const KEYS = {
  interrupt: ["\u0003"],
  end: ["\r", "\n", "\u0004"],
  erase: ["\u007f", "\b"],
  eraseLine: ["\u0015"],
} as const;

/** Asks on stderr and reads from the terminal, one line a question, without showing what is typed. */
function askHidden(terminal: ReadStream, questions: readonly string[]): Promise<string[]> {
  const answers: string[] = [];
  let typed: string[] = [];
  terminal.setRawMode(true).setEncoding("utf8");
  process.stderr.write(questions[0] ?? "");
  return new Promise<string[]>((resolve, reject) => {
    const onHangup = () => reject(new SluiceError("USAGE", "stdin was closed"));
    const onKey = (key: string) => {
      if (among(key, KEYS.interrupt)) reject(new SluiceError("USAGE", "interrupted"));
      else if (among(key, KEYS.erase)) typed.pop();
      else if (among(key, KEYS.eraseLine)) typed = [];
      else if (!among(key, KEYS.end)) typed.push(key);
      else {
        answers.push(typed.join(""));
        typed = [];
        process.stderr.write(`\n${questions[answers.length] ?? ""}`);
        if (answers.length === questions.length) resolve(answers);
      }
    };
    terminal.once("end", onHangup);
    // What is pasted comes as one chunk, maybe with both lines in it.
    terminal.on("data", (chunk: string) => {
      for (const key of chunk) if (answers.length < questions.length) onKey(key);
    });
  }).finally(() => {
    terminal.setRawMode(false);
    terminal.removeAllListeners("data").removeAllListeners("end").pause();
  });
}

function among(key: string, keys: readonly string[]): boolean {
  return keys.includes(key);
}
