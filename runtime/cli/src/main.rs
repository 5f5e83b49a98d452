//! `torbox`: runs Tor Browser in a box that does not know who you are.
//!
//! This crate probes the host, shows progress and prints messages. It decides nothing about isolation, which is
//! `torbox-plan`'s, and holds no part of a running box, which is `torbox-backend`'s.
#![cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "displays, their errors and the rest of what is Linux's alone"))]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking"))]

mod args;
mod audit;
mod bridge;
mod compose;
mod config;
mod control;
mod copy;
mod desktop;
mod dirs;
mod display;
mod doctor;
mod downloads;
mod engine;
mod error;
mod helper;
mod images;
mod manual;
mod plan;
mod profile;
mod proxy;
mod progress;
mod run;
#[cfg(target_os = "linux")]
mod speaker;
mod stall;
mod status;
mod system;
mod terminal;
mod viewer;
mod window;

use clap::{CommandFactory, FromArgMatches};
use std::process::ExitCode;
use torbox_backend::engine as engines;

fn main() -> ExitCode {
    // The runtime's processes must be single-threaded from their first instruction on: nothing may come before this.
    let word = std::env::args().nth(1).unwrap_or_default();
    if let Some(ended) = system::native_main(&word) {
        return ended;
    }
    if word == engines::ENGINE {
        return engines::engine_main();
    }
    // What the caller left open is nobody's of whom torbox starts.
    if let Err(source) = system::close_on_exec() {
        return error::CliError::System("close what was left open", source).print();
    }
    if word == viewer::VIEWER {
        return viewer::main();
    }
    let matches = args::Args::command().get_matches();
    let args = args::Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let outcome = match &args.command {
        args::Command::Run(run) if run.window => window::run(window::Outcome::Window),
        args::Command::Audit(audit) if audit.window => window::run(window::Outcome::Text),
        _ => dispatch(args, matches.subcommand_name().unwrap_or_default()).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| error.print())
}

fn dispatch(mut args: args::Args, name: &str) -> Result<(), error::CliError> {
    let dirs = dirs::Dirs::new(args.dir.as_deref())?;
    // Where the settings lie is known only now: the same words are read again, with them as defaults.
    if config::concerns(name) {
        let command = config::command(&dirs, args.command.profile().as_ref())?;
        args = args::Args::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    }
    args.command.name_by_profile();
    control::sweep(&dirs)?;
    match &args.command {
        args::Command::Run(run) => run::run(&dirs, run),
        args::Command::Open(which) => status::open(&dirs, &which.name, which.url.as_ref()),
        args::Command::Stop(which) => status::stop(&dirs, &which.name),
        args::Command::NewIdentity(which) => status::new_identity(&dirs, &which.name),
        args::Command::Copy(which) => copy::copy(&dirs, which),
        args::Command::Status(format) => status::status(&dirs, format),
        args::Command::Build(build) => images::build(&dirs, build),
        args::Command::Update(update) => images::update(&dirs, update),
        args::Command::Verify => images::verify(&dirs),
        args::Command::Images(which) => images::images(&dirs, which),
        args::Command::Plan(which) => plan::print(&dirs, which),
        args::Command::Doctor(format) => doctor::doctor(format),
        args::Command::Compose(which) => compose::compose(&dirs, which),
        args::Command::Audit(which) => audit::audit(&dirs, which),
        args::Command::Probe(which) => run::probe(&dirs, which),
        args::Command::Desktop { action } => desktop::desktop(args.dir.as_deref(), action),
        args::Command::Bridge { action } => bridge::bridge(args.dir.as_deref(), &dirs, action),
        args::Command::Profile { action } => profile::profile(&dirs, action),
        args::Command::Config { action, profile } => config::config(&dirs, *action, profile.as_ref()),
        args::Command::Downloads { action } => downloads::downloads(&dirs, action),
        args::Command::Upload(which) => downloads::upload(&dirs, which),
        args::Command::Completions { shell } => {
            manual::completions(*shell);
            Ok(())
        }
        args::Command::Man { dir } => manual::pages(dir),
    }
}
