//! `torbox-testnet`: a private Tor network to try torbox in, without touching the real one.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use nix::unistd::User;
use torbox_tests::testnet::config::{EXIT_PORT, ONION_PORT, WEB};
use torbox_tests::testnet::daemon::helper_ready;
use torbox_tests::testnet::{self, Lifetime, Options, TestNet, sentinel, web};

/// A private Tor network in network namespaces of its own, for tests and demonstrations. Needs root.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The network's directory; its name decides which network is meant.
    #[arg(long, global = true, default_value = "/tmp/torbox-testnet")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Brings the network up, and returns when its exit page and its onion page can be reached.
    Up,
    /// Asks for both pages through a client of its own.
    Check,
    /// Runs a program in the client's network namespace, with the caller's environment.
    Exec {
        /// Runs it as this user.
        #[arg(long)]
        user: Option<String>,
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
    /// Ends the network and every process in its namespaces, and removes its directory.
    Down,
    /// Says where things are.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// The web server; `up` starts it.
    #[command(hide = true)]
    ServeWeb {
        #[arg(long)]
        log: PathBuf,
        #[arg(long)]
        owned: bool,
    },
    /// The sentinels; tests start them.
    #[command(hide = true)]
    ServeSentinel {
        #[arg(long)]
        log: PathBuf,
        #[arg(long)]
        doors: String,
        #[arg(long)]
        owned: bool,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("torbox-testnet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Action::Up => up(cli.dir),
        Action::Check => {
            let (exit, onion) = TestNet::attach(&cli.dir)?.check()?;
            println!("exit page after {:.1} s, onion page after {:.1} s", exit.as_secs_f32(), onion.as_secs_f32());
            Ok(())
        }
        Action::Exec { user, program } => exec(&TestNet::attach(&cli.dir)?, user.as_deref(), &program),
        Action::Down => testnet::down(&cli.dir),
        Action::Status { json } => status(&TestNet::attach(&cli.dir)?, json),
        Action::ServeWeb { log, owned } => {
            let at = |port| SocketAddr::from((WEB, port));
            web::serve(at(EXIT_PORT), at(ONION_PORT), &log, || helper_ready(lifetime(owned)))
        }
        Action::ServeSentinel { log, doors, owned } => {
            let doors: Vec<_> = serde_json::from_str(&doors).context("cannot understand --doors")?;
            sentinel::serve(&doors, &log, || helper_ready(lifetime(owned)))
        }
    }
}

fn lifetime(owned: bool) -> Lifetime {
    if owned { Lifetime::Owned } else { Lifetime::Detached }
}

fn up(dir: PathBuf) -> Result<()> {
    let helper = std::env::current_exe().context("no path to the running program")?;
    let net = TestNet::up(&Options { dir, helper, lifetime: Lifetime::Detached, progress: |line| eprintln!("{line}") })?;
    status(&net, false)
}

fn status(net: &TestNet, json: bool) -> Result<()> {
    let (state, daemons) = (net.state(), net.daemons()?.len());
    if json {
        println!("{}", serde_json::to_string_pretty(state)?);
        return Ok(());
    }
    println!("exit page   {}", state.exit_url);
    println!("onion page  {}", state.onion_url);
    println!("client      namespace {}, torrc {}", state.client, state.client_torrc.display());
    println!("web log     {}", state.web_log.display());
    println!("daemons     {daemons}");
    println!("took (ms)   {}", serde_json::to_string(&state.took_ms)?);
    Ok(())
}

fn exec(net: &TestNet, user: Option<&str>, program: &[OsString]) -> Result<()> {
    net.client().enter()?;
    let (first, rest) = program.split_first().context("no program")?;
    let mut command = match user {
        None => Command::new(first),
        Some(name) => as_user(name, first)?,
    };
    bail!("cannot run {}: {}", first.display(), command.args(rest).exec())
}

fn as_user(name: &str, program: &OsString) -> Result<Command> {
    let user = User::from_name(name)?.with_context(|| format!("there is no user {name}"))?;
    let mut command = Command::new("/usr/bin/setpriv");
    command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--init-groups").arg("--").arg(program);
    command.env("HOME", &user.dir).env("USER", name).env("LOGNAME", name);
    Ok(command)
}
