export const NONE: string;
export function withReport(page: string, name: string, text: string): string;
export function table(head: readonly string[], body: readonly (readonly string[])[]): string;
export function figure(value: number | undefined, unit?: string): string;
export function machineInWords(machine: Readonly<Record<string, string | number>>): string;
export function firstLine(text: string): string;
