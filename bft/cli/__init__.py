"""The `bft` command. One module a command group; `main` assembles them."""
