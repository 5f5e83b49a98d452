//! `torbox`: runs Tor Browser in a box that does not know who you are.
//!
//! This crate probes the host, shows progress and prints messages. It decides nothing about isolation, which is
//! `torbox-plan`'s, and holds no part of a running box, which is `torbox-backend`'s.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking"))]

mod args;
mod control;
mod dirs;
mod display;
mod error;
mod images;
mod plan;
mod progress;
mod run;
mod status;

use clap::Parser;
use std::process::ExitCode;
use torbox_backend::native;

fn main() -> ExitCode {
    // The runtime's processes must be single-threaded from their first instruction on: nothing may come before this.
    match std::env::args().nth(1).as_deref() {
        Some(native::OUTER) => return native::outer_main(),
        Some(native::INNER) => return native::inner_main(),
        _ => {}
    }
    let args = args::Args::parse();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.print(),
    }
}

fn dispatch(args: &args::Args) -> Result<(), error::CliError> {
    let dirs = dirs::Dirs::new(args.dir.as_deref())?;
    control::sweep(&dirs)?;
    match &args.command {
        args::Command::Run(run) => run::run(&dirs, run),
        args::Command::Stop(which) => status::stop(&dirs, &which.name),
        args::Command::Status(format) => status::status(&dirs, format),
        args::Command::Build(build) => images::build(&dirs, build),
        args::Command::Images(format) => images::list(&dirs, format),
        args::Command::Plan(which) => plan::print(&dirs, which),
        args::Command::Probe(which) => run::probe(&dirs, which),
    }
}
