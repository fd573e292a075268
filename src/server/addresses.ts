/** Whether a text is host:port, with a port that can be connected to. */
export function isAddress(text: string): boolean {
  const port = Number(/^[^\s:/]+:(\d{1,5})$|^\[[^\s/]+\]:(\d{1,5})$/.exec(text)?.slice(1).find(Boolean) ?? 0);
  return port >= 1 && port <= 65_535;
}
