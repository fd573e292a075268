/** Whether a text is host:port, with a port that can be connected to. */
export function isAddress(text: string): boolean {
  const [, port = "0"] = /^(?:[^\s:/]+|\[[^\s/]+\]):(\d{1,5})$/.exec(text) ?? [];
  return Number(port) >= 1 && Number(port) <= 65_535;
}
