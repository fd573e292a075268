// A process that holds one state and is told what to do with it.
import { delayTasks, serveTasks } from "../support/tasks.mjs";
import { anonymousBytes } from "./run/counters.mjs";
import { Entries, KEY_BYTES } from "./run/keys.mjs";
import { steady } from "./run/loop.mjs";
import { read } from "./run/reads.mjs";
import { Subject } from "./run/subject.mjs";
import { decode, deleteAll, fill, overwrite, put, putIntoStore } from "./run/writes.mjs";

/** Bytes of an entry beside its key and value, about. */
const ENTRY_BYTES = 24;

const settings = JSON.parse(process.argv[2]);
const subject = new Subject(settings);
subject.keys = settings.keys;
subject.valueBytes = settings.valueBytes;
subject.entryBytes = KEY_BYTES + settings.valueBytes + ENTRY_BYTES;
subject.entries = new Entries(settings.valueBytes);
await subject.open();
const emptyBytes = anonymousBytes();

const tasks = { fill, put, decode, putIntoStore, overwrite, read, deleteAll, steady };
const named = Object.entries(tasks).map(([name, task]) => [name, (fields) => task(subject, fields)]);
serveTasks(
  {
    ...Object.fromEntries(named),
    memory: () => ({ anonymousNow: anonymousBytes(), anonymousEmpty: emptyBytes }),
    restart: () => subject.restart(),
    end: () => subject.end(),
    ...delayTasks,
  },
  {},
);
