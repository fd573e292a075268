import type { Command, Option } from "commander";
import type { Shell } from "./completion.js";

// Makes completion scripts from the definitions of the commands. They are complete in themselves: a
// shell that asked this program at each key would wait for it.

/** A command with what may follow it. */
interface CompletionPlace {
  /** Names from the program's first subcommand on: ["kv", "get"]; empty for the program. */
  readonly path: readonly string[];
  readonly commands: readonly { readonly name: string; readonly description: string }[];
  readonly options: readonly Option[];
  /** Choices of its arguments. */
  readonly choices: readonly string[];
}

/** Returns a script that completes the commands and options of `program`. */
export function completionScript(shell: Shell, program: Command): string {
  const places = placesIn(program, []);
  switch (shell) {
    case "bash":
      return bashScript(program.name(), places);
    case "zsh":
      // The shell's own emulation of bash: one function serves both.
      return `autoload -U +X bashcompinit && bashcompinit\n${bashScript(program.name(), places)}`;
    case "fish":
      return fishScript(program.name(), places);
  }
}

function placesIn(command: Command, path: readonly string[]): CompletionPlace[] {
  const help = command.createHelp();
  const commands = help
    .visibleCommands(command)
    .map((each) => ({ name: each.name(), description: each.description() }));
  const place = {
    path,
    commands,
    options: [...help.visibleOptions(command)],
    choices: command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
  };
  return [place, ...command.commands.flatMap((each) => placesIn(each, [...path, each.name()]))];
}

function bashScript(name: string, places: readonly CompletionPlace[]): string {
  const steps = places.filter(({ path }) => path.length > 0).map(({ path }) => quoted(path.join(" ")));
  const values = places.flatMap(({ path, options }) =>
    options.filter(takesValue).map((option) => {
      const flags = flagsOf(option).map((flag) => quoted(`${path.join(" ")}:${flag}`));
      return `    ${flags.join("|")}) words=${quoted((option.argChoices ?? []).join(" "))} ;;`;
    }),
  );
  const words = places.map(({ path, commands, options, choices }) => {
    const all = [...commands.map((each) => each.name), ...choices, ...options.flatMap(flagsOf)];
    return `      ${quoted(path.join(" "))}) words=${quoted(all.join(" "))} ;;`;
  });
  // COMP_WORDS splits at "=" and ":", which no name of a command holds.
  return `_${name}() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" at="" next="" words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    next="\${at:+$at }\${COMP_WORDS[i]}"
    case "$next" in
      ${steps.join("|")}) at="$next" ;;
    esac
  done
  case "$at:$prev" in
${values.join("\n")}
    *) case "$at" in
${words.join("\n")}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _${name} ${name}
`;
}

function fishScript(name: string, places: readonly CompletionPlace[]): string {
  const steps = places.filter(({ path }) => path.length > 0).map(({ path }) => quoted(path.join(" ")));
  const at = `function __${name}_at
  set -l at ''
  for word in (commandline -opc)[2..-1]
    set -l next (string trim -- "$at $word")
    contains -- $next ${steps.join(" ")}; and set at $next
  end
  test "$at" = "$argv"
end
`;
  const lines = places.flatMap(({ path, commands, options, choices }) => {
    const here = `complete -c ${name} -n ${quoted(`__${name}_at ${path.join(" ")}`.trim())}`;
    return [
      ...commands.map((each) => `${here} -f -a ${quoted(each.name)} -d ${quoted(firstSentence(each.description))}`),
      ...(choices.length === 0 ? [] : [`${here} -f -a ${quoted(choices.join(" "))}`]),
      ...options.map((option) => {
        const flags = flagsOf(option).map((flag) =>
          flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
        );
        const value = takesValue(option) ? " -r" : "";
        const chosen = option.argChoices === undefined ? "" : ` -f -a ${quoted(option.argChoices.join(" "))}`;
        return `${here} ${flags.join(" ")}${value}${chosen} -d ${quoted(firstSentence(option.description))}`;
      }),
    ];
  });
  return `${at}${lines.join("\n")}\n`;
}

function takesValue({ required, optional }: Option): boolean {
  return required || optional;
}

/** Returns the flags of an option, of which some have two long ones. */
function flagsOf({ flags }: Option): string[] {
  return flags.split(/[ ,|]+/).filter((part) => part.startsWith("-"));
}

function firstSentence(text: string): string {
  return text.split(/(?<=[.:;]) /, 1)[0]!;
}

/** Quotes a text for all three shells. No name or description of a command has a backslash. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
