import { CairnError } from "../../../src/base/errors.js";
import type { File, FileSystem } from "../../../src/system/fs.js";
import { Inode, type Keep } from "./faulty_inode.js";

export type { Keep } from "./faulty_inode.js";

const readingKinds = ["read", "size", "list", "exists", "close", "readLink", "openNow", "readNow", "closeNow"] as const;
/** The calls that change something; power cuts are counted in these. Opening counts here because it may create. */
const changingKinds = [
  "open",
  "write",
  "datasync",
  "truncate",
  "makeDirectory",
  "rename",
  "symlink",
  "unlink",
  "removeAll",
  "syncDirectory",
] as const;
const isChanging: ReadonlySet<string> = new Set(changingKinds);
export type CallKind = (typeof readingKinds)[number] | (typeof changingKinds)[number];

export interface Call {
  readonly kind: CallKind;
  readonly path: string;
  /**
   * Set for a write or sync of a file that {@link File.allowDirect} was called for, and for `openNow`, `readNow` and `closeNow`, which are
   * direct.
   */
  readonly runs?: "direct" | "pooled";
}

/** Every call on a file system whose power is off ends with this. */
export class PowerCutError extends Error {
  override readonly name = "PowerCutError";
}

type Node = Inode | Directory | Link;

/** A symbolic link, which nothing follows here. */
class Link {
  constructor(readonly text: string) {}
}

/** A directory: its names as programs see them, as the disk has them, and the calls in between, each of which is atomic. */
class Directory {
  readonly names = new Map<string, Node>();
  readonly durable = new Map<string, Node>();
  pending: (readonly [name: string, node: Node | undefined][])[] = [];

  change(...changes: [name: string, node: Node | undefined][]): void {
    applyNames(this.names, changes);
    this.pending.push(changes);
  }

  sync(): void {
    for (const changes of this.pending) applyNames(this.durable, changes);
    this.pending = [];
  }

  /** The names after a power loss: "random" keeps the first so many calls, as a journal does. */
  namesAfterPowerLoss(keep: Keep, random: () => number): Map<string, Node> {
    if (keep === "none") return this.durable;
    if (keep === "all") return this.names;
    const names = new Map(this.durable);
    const kept = Math.floor(random() * (this.pending.length + 1));
    for (const changes of this.pending.slice(0, kept)) applyNames(names, changes);
    return names;
  }
}

/**
 * A file system in memory that remembers what is durable. Contents are durable after `datasync` of the file, names (also of
 * directories) after `syncDirectory` of the directory that they are in. Writes land when the call is made or later, never after it has
 * returned.
 */
export class FaultyFileSystem implements FileSystem {
  /** Room for the contents of all files, in bytes. What does not fit is refused as DISK_FULL, after a part of it was written. */
  capacityBytes = Number.POSITIVE_INFINITY;
  /** Called before each call: may wait, or throw what the call shall fail with. */
  onCall: ((call: Call) => void | Promise<void>) | undefined;
  /** Called when a call has had its effect, before its caller hears of it: may wait. */
  onEffect: ((call: Call) => void | Promise<void>) | undefined;
  /**
   * Whether files that {@link File.allowDirect} was called for are written and synced directly now: the effect takes place before the
   * call returns to its caller, unless {@link onCall} returns a promise. Left out: they never are.
   */
  isDirect: (() => boolean) | undefined;
  /** Calls so far. */
  readonly calls = Object.fromEntries([...readingKinds, ...changingKinds].map((kind) => [kind, 0])) as Record<
    CallKind,
    number
  >;
  /** Paths of the files that are open, once for each time. */
  readonly openFiles: string[] = [];

  #root: Directory;
  #power = true;
  #changesLeft = Number.POSITIVE_INFINITY;
  #failures: { kind: CallKind; left: number; error: unknown }[] = [];

  /** `directories`: absolute paths of directories that are there already, durably. */
  constructor(directories: readonly string[] = []) {
    this.#root = new Directory();
    for (const path of directories) this.#makeDirectory(path, true);
  }

  // Faults

  /** Number of calls so far that change something. */
  get changes(): number {
    return changingKinds.reduce((sum, kind) => sum + this.calls[kind], 0);
  }

  get powerIsOff(): boolean {
    return !this.#power;
  }

  /**
   * Lets `changes` more changing calls end; then the power goes off in the middle of the next: it may have had its effect, but its
   * caller is told nothing but {@link PowerCutError}, and so is every later caller.
   */
  cutPowerAfter(changes: number): void {
    this.#changesLeft = changes;
  }

  /**
   * Makes the `nth` call of a kind from now on (1 is the next) fail without having an effect. A sync fails as STORAGE_FAILED; for a file
   * it has the effect of {@link Inode.failSync}: later syncs pass over what was written before.
   */
  failCall(kind: CallKind, nth = 1, error?: unknown): void {
    this.#failures.push({ kind, left: nth, error });
  }

  /** Inverts a bit of a file on the disk. */
  flipBit(path: string, offset: number, bit = 0): void {
    this.#file(path).flipBit(offset, bit);
  }

  /** A copy of a file's contents. */
  contents(path: string): Uint8Array {
    return this.#file(path).bytes.slice();
  }

  /** Creates or replaces a file, durably. */
  setContents(path: string, bytes: Uint8Array): void {
    const { directory, name } = this.#locate(path);
    const inode = new Inode();
    inode.set(bytes);
    directory.change([name, inode]);
    directory.sync();
  }

  /** Contents of all files by path, to compare. */
  image(): Map<string, Uint8Array> {
    const image = new Map<string, Uint8Array>();
    walk(this.#root, "", (path, inode) => image.set(path, inode.bytes.slice()));
    return image;
  }

  /** Texts of all symbolic links by path. */
  links(): Map<string, string> {
    const links = new Map<string, string>();
    walkLinks(this.#root, "", (path, { text }) => links.set(path, text));
    return links;
  }

  /** Names in a directory; none when it is not there. */
  names(path: string): string[] {
    const node = this.#find(path);
    return node instanceof Directory ? [...node.names.keys()] : [];
  }

  /**
   * What a power failure would leave of a directory at this moment, with nothing or all of what was not synced. Nothing happens here.
   */
  peek(path: string, keep: "none" | "all"): FaultyFileSystem {
    const parent = namesOf(path).slice(0, -1);
    const name = namesOf(path).at(-1)!;
    const after = new FaultyFileSystem([`/${parent.join("/")}`]);
    let node: Node | undefined = this.#root;
    for (const each of namesOf(path)) {
      node = node instanceof Directory ? (keep === "all" ? node.names : node.durable).get(each) : undefined;
    }
    if (!(node instanceof Directory)) return after;
    const found = directoryAfterPowerLoss(node, keep, Math.random, new Map());
    after.#directory(`/${parent.join("/")}`).change([name, found]);
    return after;
  }

  /** Bytes that the files take. */
  get usedBytes(): number {
    const inodes = new Set<Inode>();
    walk(this.#root, "", (_path, inode) => inodes.add(inode));
    return [...inodes].reduce((sum, inode) => sum + inode.size, 0);
  }

  /**
   * Cuts the power here and now, and returns the file system as the machine finds it when it starts again. What was synced is there;
   * of what was not: nothing, all, or at random (`random` gives numbers from 0 to 1) a prefix of each directory's changes, and for each
   * 512-byte sector of a file, and for its size, what it was after some number of the writes to it. May be called again to see another way it could have ended.
   */
  crash(options: { keep: Keep; random?: () => number }): FaultyFileSystem {
    this.#power = false;
    const random = options.random ?? Math.random;
    const after = new FaultyFileSystem();
    after.capacityBytes = this.capacityBytes;
    after.#root = directoryAfterPowerLoss(this.#root, options.keep, random, new Map());
    return after;
  }

  // FileSystem

  open(path: string, mode: "read" | "update" | "create"): Promise<File> {
    return this.call("open", path, () => {
      const { directory, name } = this.#locate(path);
      const node = directory.names.get(name);
      if (mode === "create") {
        if (node !== undefined) throw systemError("EEXIST", path);
        const inode = new Inode();
        directory.change([name, inode]);
        return new FaultyFile(this, path, inode, true);
      }
      if (!(node instanceof Inode)) throw systemError(node === undefined ? "ENOENT" : "EISDIR", path);
      return new FaultyFile(this, path, node, mode === "update");
    });
  }

  openNow(path: string): File {
    return this.callNow("openNow", path, () => new FaultyFile(this, path, this.#file(path), false));
  }

  list(path: string): Promise<string[]> {
    return this.call("list", path, () => [...this.#directory(path).names.keys()]);
  }

  makeDirectory(path: string): Promise<void> {
    return this.call("makeDirectory", path, () => this.#makeDirectory(path, false));
  }

  rename(from: string, to: string): Promise<void> {
    return this.call("rename", from, () => {
      const source = this.#locate(from);
      const target = this.#locate(to);
      const node = source.directory.names.get(source.name);
      if (node === undefined) throw systemError("ENOENT", from);
      if (source.directory === target.directory) {
        source.directory.change([source.name, undefined], [target.name, node]);
      } else {
        target.directory.change([target.name, node]);
        source.directory.change([source.name, undefined]);
      }
    });
  }

  /** Takes no room. */
  symlink(text: string, path: string): Promise<void> {
    return this.call("symlink", path, () => {
      const { directory, name } = this.#locate(path);
      if (directory.names.has(name)) throw systemError("EEXIST", path);
      directory.change([name, new Link(text)]);
    });
  }

  readLink(path: string): Promise<string> {
    return this.call("readLink", path, () => {
      const node = this.#find(path);
      if (node instanceof Link) return node.text;
      throw systemError(node === undefined ? "ENOENT" : "EINVAL", path);
    });
  }

  unlink(path: string): Promise<void> {
    return this.call("unlink", path, () => {
      const { directory, name } = this.#locate(path);
      if (!(this.#find(path) instanceof Link)) this.#file(path);
      directory.change([name, undefined]);
    });
  }

  exists(path: string): Promise<boolean> {
    return this.call("exists", path, () => this.#find(path) !== undefined);
  }

  removeAll(path: string): Promise<void> {
    return this.call("removeAll", path, () => {
      if (this.#find(path) === undefined) return;
      const { directory, name } = this.#locate(path);
      directory.change([name, undefined]);
    });
  }

  async availableBytes(): Promise<number> {
    this.#checkPower();
    return this.freeBytes;
  }

  syncDirectory(path: string): Promise<void> {
    return this.call("syncDirectory", path, () => this.#directory(path).sync());
  }

  /** Runs one call with all that may happen to it; `failed` is what it does when it is made to fail. For this file's own use. */
  async call<Result>(
    kind: CallKind,
    path: string,
    effect: () => Result,
    failed?: () => void,
    runs?: Call["runs"],
  ): Promise<Result> {
    this.#checkPower();
    this.calls[kind]++;
    this.#failWhenAsked(kind, path, failed);
    if (isChanging.has(kind) && this.#changesLeft-- <= 0) this.#cutPowerDuring(kind, effect);
    const call: Call = runs === undefined ? { kind, path } : { kind, path, runs };
    const waiting = this.onCall?.(call);
    if (waiting !== undefined || runs !== "direct") await waiting;
    this.#checkPower();
    const result = effect();
    if (this.onEffect !== undefined) {
      const seeing = this.onEffect(call);
      if (seeing !== undefined || runs !== "direct") await seeing;
      this.#checkPower();
    }
    return result;
  }

  /** As {@link call}, for a call that reads on the calling thread: nothing can wait then. For this file's own use. */
  callNow<Result>(kind: (typeof readingKinds)[number], path: string, effect: () => Result): Result {
    this.#checkPower();
    this.calls[kind]++;
    this.#failWhenAsked(kind, path, undefined);
    const call: Call = { kind, path, runs: "direct" };
    if (this.onCall?.(call) !== undefined) throw new Error(`${kind} of ${path} cannot wait`);
    this.#checkPower();
    const result = effect();
    if (this.onEffect?.(call) !== undefined) throw new Error(`${kind} of ${path} cannot wait`);
    this.#checkPower();
    return result;
  }

  /** Bytes that a file may still grow by. For this file's own use. */
  get freeBytes(): number {
    return this.capacityBytes === Number.POSITIVE_INFINITY ? this.capacityBytes : this.capacityBytes - this.usedBytes;
  }

  #checkPower(): void {
    if (!this.#power) throw new PowerCutError("the power is off");
  }

  #failWhenAsked(kind: CallKind, path: string, failed: (() => void) | undefined): void {
    if (this.#failures.length === 0) return;
    for (const failure of this.#failures.filter((failure) => failure.kind === kind)) failure.left--;
    const due = this.#failures.find((failure) => failure.left === 0 && failure.kind === kind);
    if (due === undefined) return;
    this.#failures = this.#failures.filter((failure) => failure !== due);
    failed?.();
    if (due.error !== undefined) throw due.error;
    const sync = kind === "datasync" || kind === "syncDirectory";
    throw sync ? new CairnError("STORAGE_FAILED", `syncing ${path} failed: EIO`) : systemError("EIO", path);
  }

  /** A sync that is cut makes nothing durable by itself; anything else may or may not be found afterwards. */
  #cutPowerDuring(kind: CallKind, effect: () => unknown): never {
    try {
      if (kind !== "datasync" && kind !== "syncDirectory") effect();
    } catch {
      // It would have failed anyway; nobody will hear of it.
    }
    this.#power = false;
    throw new PowerCutError(`the power went off during ${kind}`);
  }

  #makeDirectory(path: string, durable: boolean): void {
    let directory = this.#root;
    for (const name of namesOf(path)) {
      let next = directory.names.get(name);
      if (next instanceof Inode || next instanceof Link) throw systemError("EEXIST", path);
      if (next === undefined) {
        next = new Directory();
        directory.change([name, next]);
        if (durable) directory.sync();
      }
      directory = next;
    }
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const name of namesOf(path)) node = node instanceof Directory ? node.names.get(name) : undefined;
    return node;
  }

  #directory(path: string): Directory {
    const node = this.#find(path);
    if (node instanceof Directory) return node;
    throw systemError(node === undefined ? "ENOENT" : "ENOTDIR", path);
  }

  #file(path: string): Inode {
    const node = this.#find(path);
    if (node instanceof Inode) return node;
    throw systemError(node === undefined ? "ENOENT" : "EISDIR", path);
  }

  #locate(path: string): { directory: Directory; name: string } {
    const names = namesOf(path);
    const name = names.pop();
    if (name === undefined) throw systemError("EINVAL", path);
    return { directory: this.#directory(`/${names.join("/")}`), name };
  }
}

class FaultyFile implements File {
  #open = true;
  #mayBeDirect = false;

  constructor(
    private readonly fs: FaultyFileSystem,
    private path: string,
    private readonly inode: Inode,
    private readonly writable: boolean,
  ) {
    fs.openFiles.push(path);
  }

  allowDirect(): void {
    this.#mayBeDirect = true;
  }

  get isDirect(): boolean {
    return this.#mayBeDirect && this.fs.isDirect?.() === true;
  }

  renamed(path: string): void {
    this.fs.openFiles[this.fs.openFiles.indexOf(this.path)] = path;
    this.path = path;
  }

  read(buffer: Uint8Array, position: number): Promise<number> {
    return this.#call("read", () => this.#read(buffer, position));
  }

  readNow(buffer: Uint8Array, position: number): number {
    return this.fs.callNow("readNow", this.path, () => this.#whileOpen(() => this.#read(buffer, position)));
  }

  #read(buffer: Uint8Array, position: number): number {
    const bytes = this.inode.bytes.subarray(position, position + buffer.byteLength);
    buffer.set(bytes);
    return bytes.byteLength;
  }

  write(parts: readonly Uint8Array[], position: number): Promise<void> {
    const effect = () => {
      const bytes = Buffer.concat(parts);
      const room = Math.max(this.inode.size + Math.max(0, this.fs.freeBytes) - position, 0);
      this.inode.write(bytes.subarray(0, room), position);
      if (room < bytes.byteLength) throw this.#diskFull("writing");
    };
    return this.#change("write", effect, this.#runs);
  }

  datasync(): Promise<void> {
    return this.#call(
      "datasync",
      () => this.inode.sync(),
      () => this.inode.failSync(),
      this.#runs,
    );
  }

  truncate(bytes: number): Promise<void> {
    return this.#change("truncate", () => {
      if (bytes - this.inode.size > this.fs.freeBytes) throw this.#diskFull("resizing");
      this.inode.resize(bytes);
    });
  }

  size(): Promise<number> {
    return this.#call("size", () => this.inode.size);
  }

  close(): Promise<void> {
    return this.#call("close", () => this.#close());
  }

  closeNow(): void {
    this.fs.callNow("closeNow", this.path, () => this.#whileOpen(() => this.#close()));
  }

  #close(): void {
    this.#open = false;
    this.fs.openFiles.splice(this.fs.openFiles.indexOf(this.path), 1);
  }

  get #runs(): Call["runs"] {
    if (!this.#mayBeDirect) return undefined;
    return this.isDirect ? "direct" : "pooled";
  }

  #change(kind: CallKind, effect: () => void, runs?: Call["runs"]): Promise<void> {
    const whileWritable = () => {
      if (!this.writable) throw systemError("EBADF", this.path);
      effect();
    };
    return this.#call(kind, whileWritable, undefined, runs);
  }

  #call<Result>(kind: CallKind, effect: () => Result, failed?: () => void, runs?: Call["runs"]): Promise<Result> {
    return this.fs.call(kind, this.path, () => this.#whileOpen(effect), failed, runs);
  }

  #whileOpen<Result>(effect: () => Result): Result {
    if (!this.#open) throw systemError("EBADF", this.path);
    return effect();
  }

  #diskFull(doing: string): CairnError {
    return new CairnError("DISK_FULL", `${doing} ${this.path}: no space left on the device`);
  }
}

function applyNames(names: Map<string, Node>, changes: readonly [string, Node | undefined][]): void {
  for (const [name, node] of changes) {
    if (node === undefined) names.delete(name);
    else names.set(name, node);
  }
}

function directoryAfterPowerLoss(
  directory: Directory,
  keep: Keep,
  random: () => number,
  inodes: Map<Inode, Inode>,
): Directory {
  const after = new Directory();
  for (const [name, node] of directory.namesAfterPowerLoss(keep, random)) {
    if (node instanceof Directory) {
      after.change([name, directoryAfterPowerLoss(node, keep, random, inodes)]);
      continue;
    }
    if (node instanceof Link) {
      after.change([name, node]);
      continue;
    }
    const inode = inodes.get(node) ?? node.afterPowerLoss(keep, random);
    inodes.set(node, inode);
    after.change([name, inode]);
  }
  after.sync();
  return after;
}

function walk(directory: Directory, path: string, visit: (path: string, inode: Inode) => void): void {
  for (const [name, node] of directory.names) {
    if (node instanceof Directory) walk(node, `${path}/${name}`, visit);
    else if (node instanceof Inode) visit(`${path}/${name}`, node);
  }
}

function walkLinks(directory: Directory, path: string, visit: (path: string, link: Link) => void): void {
  for (const [name, node] of directory.names) {
    if (node instanceof Directory) walkLinks(node, `${path}/${name}`, visit);
    else if (node instanceof Link) visit(`${path}/${name}`, node);
  }
}

function namesOf(path: string): string[] {
  return path.split("/").filter((name) => name !== "");
}

function systemError(code: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${path}`), { code, path });
}
