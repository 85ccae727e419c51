"""The command `completion`."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""Print a script that completes commands and options in SHELL.

    \b
    Examples:
      source <(appliance completion bash)
      appliance completion fish > ~/.config/fish/completions/appliance.fish
    """
    cls = get_completion_class(shell)
    if cls is None:
        raise TypeError(f"click has no completion for {shell}")
    root = ctx.find_root().command
    click.echo(cls(root, {}, "appliance", "_APPLIANCE_COMPLETE").source())
