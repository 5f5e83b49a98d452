//! `torbox completions` and `torbox man`: made from the command line's own text.

use crate::args::Args;
use crate::error::CliError;
use clap::CommandFactory;
use clap_complete::Shell;
use std::fs;
use std::path::Path;

/// Prints the completions for `shell`.
pub(crate) fn completions(shell: Shell) {
    clap_complete::generate(shell, &mut Args::command(), "torbox", &mut std::io::stdout());
}

/// Writes a manual page for torbox and for each of its commands into `dir`.
pub(crate) fn pages(dir: &Path) -> Result<(), CliError> {
    let written = fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Args::command(), dir));
    written.map_err(|source| CliError::Path { path: dir.to_owned(), source })
}
