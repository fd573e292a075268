/** A half-open interval of keys as Latin-1 text, which sorts as their bytes do. */
export interface KeyInterval {
  readonly start: string;
  /** The first key behind it; undefined: all from `start` on. */
  readonly end: string | undefined;
}

interface TreeNode<Value> extends KeyInterval {
  readonly value: Value;
  /** Lower than that of the children, and chosen at random: this keeps the tree flat. */
  readonly priority: number;
  /** Highest end within the subtree; undefined: at least one interval has no end. */
  highestEnd: string | undefined;
  left: Subtree<Value>;
  right: Subtree<Value>;
}

type Subtree<Value> = TreeNode<Value> | undefined;

/**
 * Finds the intervals that hold a key, among many that may overlap: a treap, in the order of the
 * starts, that knows the highest end of each subtree.
 */
export class RangeTree<Value> {
  #root: Subtree<Value>;
  #random = 1;

  add({ start, end }: KeyInterval, value: Value): void {
    this.#random = (Math.imul(this.#random, 1664525) + 1013904223) >>> 0;
    const node = { start, end, value, priority: this.#random, highestEnd: end, left: undefined, right: undefined };
    const [below, above] = split(this.#root, (each) => isBefore(each, node));
    this.#root = merge(merge(below, node), above);
  }

  /** Removes an interval that was added with this value. */
  remove(interval: KeyInterval, value: Value): void {
    this.#root = without(this.#root, interval, value);
  }

  /** Adds the values of all intervals that hold `key` to `found`. */
  find(key: string, found: Value[]): void {
    collect(this.#root, key, found);
  }
}

function collect<Value>(node: Subtree<Value>, key: string, found: Value[]): void {
  if (node === undefined || !isBelow(key, node.highestEnd)) return;
  collect(node.left, key, found);
  if (node.start > key) return;
  if (isBelow(key, node.end)) found.push(node.value);
  collect(node.right, key, found);
}

function isBelow(key: string, end: string | undefined): boolean {
  return end === undefined || key < end;
}

/** Orders intervals by their start, then by their end. */
function isBefore(one: KeyInterval, other: KeyInterval): boolean {
  if (one.start !== other.start) return one.start < other.start;
  return one.end !== undefined && isBelow(one.end, other.end) && one.end !== other.end;
}

function split<Value>(
  node: Subtree<Value>,
  isLeft: (node: TreeNode<Value>) => boolean,
): [Subtree<Value>, Subtree<Value>] {
  if (node === undefined) return [undefined, undefined];
  if (isLeft(node)) {
    const [left, right] = split(node.right, isLeft);
    node.right = left;
    return [measured(node), right];
  }
  const [left, right] = split(node.left, isLeft);
  node.left = right;
  return [left, measured(node)];
}

/** Joins two trees; no interval of `left` is behind one of `right`. */
function merge<Value>(left: Subtree<Value>, right: Subtree<Value>): Subtree<Value> {
  if (left === undefined) return right;
  if (right === undefined) return left;
  if (left.priority < right.priority) {
    left.right = merge(left.right, right);
    return measured(left);
  }
  right.left = merge(left, right.left);
  return measured(right);
}

function without<Value>(node: Subtree<Value>, interval: KeyInterval, value: Value): Subtree<Value> {
  if (node === undefined) return undefined;
  if (node.value === value) return merge(node.left, node.right);
  // Equal intervals may be on both sides.
  if (!isBefore(node, interval)) node.left = without(node.left, interval, value);
  if (!isBefore(interval, node)) node.right = without(node.right, interval, value);
  return measured(node);
}

function measured<Value>(node: TreeNode<Value>): TreeNode<Value> {
  node.highestEnd = node.end;
  for (const child of [node.left, node.right]) {
    if (child !== undefined && node.highestEnd !== undefined && isBelow(node.highestEnd, child.highestEnd)) {
      node.highestEnd = child.highestEnd;
    }
  }
  return node;
}
