import { Argument, Command } from "commander";

/** The shells that there are completions for. */
export const shells = ["bash", "zsh", "fish"] as const;

export type Shell = (typeof shells)[number];

const HELP = `
The script knows all commands and options of this version: make it again after an upgrade, or let the shell do that.

Examples:
  echo 'source <(cairn completion bash)' >> ~/.bashrc
  echo 'source <(cairn completion zsh)' >> ~/.zshrc      (after compinit)
  cairn completion fish > ~/.config/fish/completions/cairn.fish`;

/** Defines `cairn completion`, which prints a script that completes commands and options. */
export function completionCommand(): Command {
  return new Command("completion")
    .description("Print a script with which a shell completes commands and options.")
    .addArgument(new Argument("<shell>", "the shell").choices(shells))
    .addHelpText("after", HELP)
    .action(async (shell: Shell, _options: object, command: Command) => {
      const { completionScript } = await import("./scripts.js");
      process.stdout.write(completionScript(shell, command.parent!));
    });
}
