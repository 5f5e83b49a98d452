//! `torbox compose`: writes the plan as a compose file, with the seccomp profiles that it names.

use crate::args::{self, Browser, DisplayChoice};
use crate::bridge;
use crate::dirs::Dirs;
use crate::display;
use crate::error::CliError;
use crate::images;
use crate::progress::Progress;
use crate::run::{self, Wanted};
use crate::system;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use torbox_backend::engine::own_processes;
use torbox_plan::compose::{DisplaySource, Placed, profiles, render, yaml};
use torbox_plan::engine::Dialect;
use torbox_plan::{CgroupAccess, Display, Host, Identity, Intent, Plan, Program, Resolver};

/// Writes the file and its profiles into the directory.
pub(crate) fn compose(dirs: &Dirs, args: &args::Compose) -> Result<(), CliError> {
    if args.of.engine.is_given() {
        return Err(CliError::ComposeEngine);
    }
    let (dialect, tool) = match args.format {
        args::ComposeFormat::Docker => (Dialect::Docker, "docker compose"),
        args::ComposeFormat::Podman => (Dialect::Podman, "podman-compose"),
        args::ComposeFormat::Kube => return Err(CliError::ComposeKube),
    };
    let (display, torrc) = (display_of(args.of.display)?, run::torrc(dirs, &args.of)?);
    let mut progress = Progress::new();
    let provided = images::provide(dirs, args.of.browser, &args.of.sources, &mut progress)?;
    progress.end();
    let program = if display == Display::None { Program::Probe } else { Program::Browser { url: args.url.clone().map(String::from) } };
    let intent = run::intent(&Wanted { args: &args.of, torrc, resolver: bridge::looks_up_names(dirs, args.of.proxy.as_ref())?.then_some(Resolver::Engine), program, provided: &provided })?;
    // What an engine can give is known where the file is used: every bound is asked for.
    let host = Host { identity: Identity::Engine, cgroup: CgroupAccess::Delegated, group: String::new(), display, open_files: u64::MAX };
    let images = [&provided.tor, &provided.browser].map(|image| (image.digest.to_string(), image.config.to_string()));
    let processes = if dialect == Dialect::Podman { own_processes() } else { None };
    let placed = Placed { dialect, images: BTreeMap::from(images), display: DisplaySource::Plan, processes };
    write(&args.directory, &Plan::new(&intent, &host)?, &placed)?;
    explain(args, (dialect.name(), tool), &intent, &host.display);
    Ok(())
}

/// The display's place. A security context would end with this command, and so would a cookie: whoever uses the file gives those.
fn display_of(choice: DisplayChoice) -> Result<Display, CliError> {
    let choice = match choice {
        DisplayChoice::None => return Ok(Display::None),
        DisplayChoice::Wayland => return Err(CliError::ComposeContext),
        DisplayChoice::Served => return Err(CliError::ComposeServed),
        DisplayChoice::Auto if system::is_wayland() => DisplayChoice::WaylandFilter,
        DisplayChoice::Auto => DisplayChoice::X11Nested,
        other => other,
    };
    // Nothing is made where none of these needs a place.
    Ok(display::open(choice, Path::new(""))?.display)
}

fn write(directory: &Path, plan: &Plan, placed: &Placed) -> Result<(), CliError> {
    let document = serde_json::to_value(render(plan, placed)?).map_err(|error| CliError::System("write the compose file", error.into()))?;
    let text = format!("# Made by torbox compose. Its init proves in each container that the box holds before anything starts.\n{}", yaml(&document));
    for (name, text) in profiles(plan)?.into_iter().chain([("compose.yaml".to_owned(), text)]) {
        let path = directory.join(name);
        let parent = path.parent().unwrap_or(directory);
        let failed = |source| CliError::Path { path: path.clone(), source };
        fs::create_dir_all(parent).and_then(|()| fs::write(&path, text)).map_err(failed)?;
    }
    Ok(())
}

/// What is left to do, on standard error.
fn explain(args: &args::Compose, (engine, tool): (&str, &str), intent: &Intent, display: &Display) {
    let (tor, browser) = (&intent.tor.name, &intent.browser.name);
    eprintln!("torbox: to use it, once for each image: torbox images export {tor} tor.tar && {engine} load -i tor.tar; the same with {browser}");
    if let Display::X11 { .. } | Display::Nested { .. } = display {
        eprintln!("torbox: then make a cookie: xauth -f box generate $DISPLAY . untrusted timeout 0; export TORBOX_DISPLAY_COOKIE=$(xauth -f box list | awk '{{print $3}}')");
    }
    eprintln!("torbox: then: cd {} && {tool} up; Ctrl-C and {tool} down --volumes end it", args.directory.display());
    if args.of.browser == Browser::FirefoxEsr {
        eprintln!("torbox: WARNING: this is {browser}, a stand-in for demonstrations and tests. It does NOT make you anonymous.");
    }
}
