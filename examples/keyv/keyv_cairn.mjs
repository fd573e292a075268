// A storage adapter for Keyv 5: new Keyv({ store: new KeyvCairn(client), namespace: "cache" }).
// It is written to Keyv's documented interface (KeyvStoreAdapter) and does not import Keyv. Keyv 6 has another one, and needs Node 22.
import { EventEmitter } from "node:events";
import { op } from "cairn-raft/client";

/** Keys that are read at a time, and that one transaction removes: it may have 128 operations. */
const PAGE = 100;

/**
 * Keyv hands over keys with its namespace ("cache:name"), and values as texts that hold their own time of expiry. It removes an expired value
 * when it reads it; one that nobody reads stays until it is removed.
 */
export class KeyvCairn extends EventEmitter {
  /** Set by Keyv. */
  namespace;
  opts;
  #client;

  /** `stale`: reads may be answered by any member from its own state, which may be behind. */
  constructor(client, { prefix = "keyv/", stale = false } = {}) {
    super();
    this.#client = client;
    this.opts = { prefix, stale };
  }

  async get(key) {
    const found = await this.#client.get(this.#nameOf(key), { stale: this.opts.stale });
    return found?.text();
  }

  async getMany(keys) {
    return Promise.all(keys.map((key) => this.get(key)));
  }

  /** `ttl` is part of the value already. */
  async set(key, value, _ttl) {
    await this.#client.put(this.#nameOf(key), value);
    return true;
  }

  async setMany(entries) {
    await Promise.all(entries.map(({ key, value }) => this.set(key, value)));
  }

  async has(key) {
    return (await this.get(key)) !== undefined;
  }

  async delete(key) {
    return this.#client.delete(this.#nameOf(key));
  }

  /** True if all of them existed. */
  async deleteMany(keys) {
    return (await Promise.all(keys.map((key) => this.delete(key)))).every((existed) => existed);
  }

  /** Removes all keys of the namespace, a hundred at a time; those that are written meanwhile may stay. */
  async clear() {
    const prefix = this.#nameOf(this.namespace === undefined ? "" : `${this.namespace}:`);
    let page = [];
    for await (const { keyBytes } of this.#client.range({ prefix, pageSize: PAGE })) {
      page.push(op.delete(keyBytes));
      if (page.length < PAGE) continue;
      await this.#remove(page);
      page = [];
    }
    await this.#remove(page);
  }

  /** Yields keys, with their namespace, and values as they are stored. */
  async *iterator(namespace = this.namespace) {
    const prefix = this.#nameOf(namespace === undefined ? "" : `${namespace}:`);
    for await (const found of this.#client.range({ prefix, pageSize: PAGE })) {
      yield [found.key.slice(this.opts.prefix.length), found.text()];
    }
  }

  /** The client belongs to whoever made it. */
  async disconnect() {}

  async #remove(steps) {
    if (steps.length === 0) return;
    await this.#client
      .txn()
      .then(...steps)
      .commit();
  }

  #nameOf(key) {
    return this.opts.prefix + key;
  }
}
