/** Whatever of the process's own time and chance the code under test must not use. */
const forbidden: readonly (readonly [object: object, name: string])[] = [
  [globalThis, "setTimeout"],
  [globalThis, "setInterval"],
  [globalThis, "setImmediate"],
  [performance, "now"],
  [Date, "now"],
  [Math, "random"],
];

/** Makes each of them throw, as long as `work` runs. */
export async function withoutRealTime<Result>(work: () => Promise<Result>): Promise<Result> {
  const kept = forbidden.map(([object, name]) => Object.getOwnPropertyDescriptor(object, name));
  forbidden.forEach(([object, name], at) => {
    const value = () => {
      throw new Error(`${name} was called in a simulation: take the injected clock or random source`);
    };
    Object.defineProperty(object, name, {
      configurable: true,
      writable: true,
      enumerable: kept[at]?.enumerable ?? false,
      value,
    });
  });
  try {
    return await work();
  } finally {
    forbidden.forEach(([object, name], at) => {
      const descriptor = kept[at];
      if (descriptor === undefined) Reflect.deleteProperty(object, name);
      else Object.defineProperty(object, name, descriptor);
    });
  }
}
