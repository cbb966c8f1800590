// topic-tree: finds the filters that select a topic, without looking at the others.
// Path: subscriptions → [topic tree]. Touches: nothing.

/** One level of filters; what stands for `+` and `#` has a place of its own. */
interface Node<T> {
  children: Map<string, Node<T>> | undefined;
  single: Node<T> | undefined;
  /** Of filters that end here, and of those that go on with `#` and end. */
  here: Set<T> | undefined;
  multi: Set<T> | undefined;
}

/** Values under topic filters (MQTT 3.1.1 and 5.0 §4.7), well-formed ones. */
export class TopicTree<T> {
  readonly #root: Node<T> = createNode();

  add(filter: string, value: T): void {
    const levels = filter.split("/");
    const isMulti = levels.at(-1) === "#";
    if (isMulti) levels.pop();
    const node = levels.reduce((at, level) => childOf(at, level), this.#root);
    if (isMulti) node.multi = (node.multi ?? new Set()).add(value);
    else node.here = (node.here ?? new Set()).add(value);
  }

  remove(filter: string, value: T): void {
    removeFrom(this.#root, filter.split("/"), 0, value);
  }

  /** All values whose filters select `topic`, in no order; one stands there once for each filter. */
  match(topic: string): T[] {
    const found: T[] = [];
    const levels = topic.split("/");
    // Wildcards at the front select no topic that begins with $ [MQTT-4.7.2-1].
    if (topic.startsWith("$")) {
      const node = this.#root.children?.get(levels[0] ?? "");
      if (node) collect(node, levels, 1, found);
    } else {
      collect(this.#root, levels, 0, found);
    }
    return found;
  }
}

function createNode<T>(): Node<T> {
  return { children: undefined, single: undefined, here: undefined, multi: undefined };
}

function childOf<T>(node: Node<T>, level: string): Node<T> {
  if (level === "+") {
    node.single ??= createNode();
    return node.single;
  }
  node.children ??= new Map();
  let child = node.children.get(level);
  if (!child) {
    child = createNode();
    node.children.set(level, child);
  }
  return child;
}

function collect<T>(node: Node<T>, levels: readonly string[], at: number, found: T[]): void {
  // `a/#` selects `a` itself, too (§4.7.1.2).
  if (node.multi) for (const value of node.multi) found.push(value);
  if (at === levels.length) {
    if (node.here) for (const value of node.here) found.push(value);
    return;
  }
  const child = node.children?.get(levels[at] as string);
  if (child) collect(child, levels, at + 1, found);
  if (node.single) collect(node.single, levels, at + 1, found);
}

/** Removes the value, and the nodes that hold nothing any more; tells whether `node` is such a one. */
function removeFrom<T>(node: Node<T>, levels: readonly string[], at: number, value: T): boolean {
  const level = levels[at];
  if (level === undefined) {
    node.here?.delete(value);
    if (node.here?.size === 0) node.here = undefined;
  } else if (level === "#") {
    node.multi?.delete(value);
    if (node.multi?.size === 0) node.multi = undefined;
  } else if (level === "+") {
    if (node.single && removeFrom(node.single, levels, at + 1, value)) node.single = undefined;
  } else {
    const child = node.children?.get(level);
    if (child && removeFrom(child, levels, at + 1, value)) node.children?.delete(level);
    if (node.children?.size === 0) node.children = undefined;
  }
  return !(node.here || node.multi || node.children || node.single);
}
