//! What a container of a compose file runs: the init that supplies and awaits what no runtime does here, then the plan's program.

use super::{Health, used};
use crate::ids::{BoxPath, Role};
use crate::plan::{Container, Link, Mount, Plan, SuppliedFile, paths};

/// What the gate makes for the browser, and nobody else sees: it opens the control server.
const SECRET: &str = "/run/torbox/browser/secret";
/// The variable with the X server's cookie: the hexadecimal digits that xauth(1) lists.
const COOKIE: &str = "TORBOX_DISPLAY_COOKIE";

/// Text that compose does not take for a variable.
pub(super) fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn has(container: &Container, wanted: SuppliedFile) -> bool {
    container.mounts.iter().any(|mount| matches!(mount, Mount::File { file, target: _ } if *file == wanted))
}

/// What the container is told besides the plan's environment; the init takes it out again.
pub(super) fn environment(container: &Container) -> Option<(String, String)> {
    has(container, SuppliedFile::DisplayCookie).then(|| (COOKIE.to_owned(), format!("${{{COOKIE}}}")))
}

/// What the init does before it becomes the program, and the program.
pub(super) fn point(plan: &Plan, container: &Container) -> Vec<String> {
    let mut words = vec![paths::INIT.to_string(), "alone".to_owned()];
    let mut say = |of: &[&str]| words.extend(of.iter().map(|&word| literal(word)));
    for path in awaited(plan, container) {
        say(&["--await", &path]);
    }
    if used(container).any(|(link, _)| link == Link::Tor) {
        say(&["--bootstrapped", paths::TOR_CONTROL.as_str(), paths::TOR_COOKIE.as_str()]);
    }
    for mount in &container.mounts {
        let Mount::File { file, target } = mount else { continue };
        match file {
            SuppliedFile::Torrc => say(&["--text", target.as_str(), &plan.torrc]),
            // The engine has it there.
            SuppliedFile::Resolver => {}
            SuppliedFile::DisplayCookie => say(&["--cookie", target.as_str(), COOKIE]),
            SuppliedFile::ControlSecret if container.role == Link::Browser.owner() => say(&["--secret", SECRET, "--copy", SECRET, target.as_str()]),
            SuppliedFile::ControlSecret => say(&["--copy", SECRET, target.as_str()]),
        }
    }
    say(&["--"]);
    say(&program(container).iter().map(String::as_str).collect::<Vec<_>>());
    words
}

/// The sockets that must listen before the program of `container` starts: not every compose waits for health.
fn awaited(plan: &Plan, container: &Container) -> Vec<String> {
    let of = |(link, target): (Link, BoxPath)| match link {
        Link::Tor => vec![paths::TOR_SOCKS.to_string(), paths::TOR_CONTROL.to_string()],
        Link::Browser => vec![paths::SOCKS.to_string(), paths::CONTROL.to_string()],
        Link::Display => display_socket(plan).map(|name| format!("{target}/{name}")).into_iter().collect(),
        Link::Admin => Vec::new(),
    };
    used(container).flat_map(of).collect()
}

/// The file name of the socket that the display makes.
fn display_socket(plan: &Plan) -> Option<&str> {
    let mut args = plan.container(Role::Display)?.args.iter();
    args.find(|word| *word == "--listen")?;
    args.next()?.rsplit('/').next()
}

/// An engine keeps what containers write: a browser's output, which may say what is browsed, is not let out.
fn program(container: &Container) -> Vec<String> {
    let mut args = container.args.clone();
    if container.role == Role::Browser
        && container.proves()
        && let Some(at) = args.iter().position(|word| word == "--")
    {
        args.insert(at, "--silent".to_owned());
    }
    args
}

/// tor is healthy when it is connected to the network, the gate and the display when they listen. The browser's own end is all there
/// is to know of it.
pub(super) fn health(plan: &Plan, role: Role) -> Option<Health> {
    let what: Vec<String> = match role {
        Role::Tor => vec!["tor".to_owned(), paths::TOR_CONTROL.to_string(), paths::TOR_COOKIE.to_string()],
        Role::Gate => vec!["listens".to_owned(), paths::SOCKS.to_string()],
        Role::Display => vec!["listens".to_owned(), format!("{}/{}", paths::LINK_DISPLAY, display_socket(plan)?)],
        Role::Browser => return None,
    };
    let test = ["CMD".to_owned(), paths::INIT.to_string(), "healthy".to_owned()].into_iter().chain(what).collect();
    Some(Health { test, interval: "3s".to_owned(), timeout: "5s".to_owned(), start_period: "300s".to_owned(), retries: 3 })
}
