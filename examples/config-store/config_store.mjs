// A configuration that a fleet of processes shares, and that reloads while they run.
import { EventEmitter } from "node:events";

/**
 * Settings below a prefix, as JSON, kept in memory: reading one costs nothing, and works while the cluster cannot be reached.
 * Events: "change" with (name, value), value being undefined when the setting was removed; "invalid" with (name, error) when a value is no
 * JSON, and the one before stays; "end" with the error that has ended the updates.
 */
export class ConfigStore extends EventEmitter {
  #client;
  #prefix;
  #watch;
  #settings = new Map();
  /** The settings that a new list has shown so far; undefined: no list is being read. */
  #listed;

  constructor(client, prefix) {
    super();
    this.#client = client;
    this.#prefix = prefix;
  }

  /** Resolves when all settings are there. */
  static async open(client, { prefix = "config/", signal } = {}) {
    const store = new ConfigStore(client, prefix);
    await store.#open(signal);
    return store;
  }

  get(name) {
    return this.#settings.get(name);
  }

  entries() {
    return this.#settings.entries();
  }

  /** Resolves when the setting is durable on a majority. Every store learns of it by its watch, this one too. */
  async set(name, value) {
    await this.#client.put(this.#prefix + name, { json: value });
  }

  async delete(name) {
    return this.#client.delete(this.#prefix + name);
  }

  async close() {
    await this.#watch.close();
  }

  #open(signal) {
    this.#watch = this.#client.watch({ prefix: this.#prefix }, { initial: true, signal });
    this.#listed = new Map();
    return new Promise((resolve, reject) => {
      this.#follow(resolve).catch((error) => {
        reject(error);
        this.emit("end", error);
      });
    });
  }

  async #follow(ready) {
    for await (const event of this.#watch) {
      if (event.type === "restarted") this.#listed = new Map();
      else if (event.type === "existing") this.#take(this.#listed, event);
      else if (event.type === "put") this.#take(this.#settings, event);
      else if (event.type === "delete") this.#change(this.#settings, this.#nameOf(event), undefined);
      else if (event.type === "listed") {
        this.#replace(this.#listed);
        this.#listed = undefined;
        ready();
      }
    }
  }

  /** Takes all of a new list at once, and tells of what differs: the changes between the lists are not known one by one. */
  #replace(listed) {
    for (const name of [...this.#settings.keys()]) if (!listed.has(name)) this.#change(this.#settings, name, undefined);
    for (const [name, value] of listed) {
      if (JSON.stringify(this.#settings.get(name)) !== JSON.stringify(value)) this.#change(this.#settings, name, value);
    }
  }

  #take(settings, event) {
    const name = this.#nameOf(event);
    let value;
    try {
      value = event.value.json();
    } catch (error) {
      if (settings === this.#listed && this.#settings.has(name)) settings.set(name, this.#settings.get(name));
      this.emit("invalid", name, error);
      return;
    }
    if (settings === this.#listed) settings.set(name, value);
    else this.#change(settings, name, value);
  }

  #change(settings, name, value) {
    if (value === undefined) settings.delete(name);
    else settings.set(name, value);
    this.emit("change", name, value);
  }

  #nameOf({ key }) {
    return key.slice(this.#prefix.length);
  }
}
