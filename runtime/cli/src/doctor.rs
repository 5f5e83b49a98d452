//! `torbox doctor`: what on this machine can make a box, what it can do, and why the rest is refused.

use crate::args::Format;
use crate::error::CliError;
use crate::system;
use crate::terminal::tell;
use serde::Serialize;
use torbox_backend::engine::{self, About, Endpoint, Environment, Found, Machine, Users};
use torbox_plan::engine::Dialect;
use torbox_plan::{CgroupAccess, Identity};

/// The backend of torbox's own.
const NATIVE: &str = "native";

/// Something that makes boxes, or might.
#[derive(Serialize)]
struct Maker {
    /// `native`, `docker` or `podman`; unknown where nothing answers.
    backend: Option<&'static str>,
    /// How it was found.
    found: String,
    /// Where it listens.
    address: Option<String>,
    /// What it says of itself, and can do.
    can: Vec<String>,
    /// Why no box is made with it.
    refused: Option<String>,
    /// What to do about that.
    hint: Option<String>,
}

/// Prints all of them.
pub(crate) fn doctor(format: &Format) -> Result<(), CliError> {
    let engines = engine::find(&Environment::current()).into_iter().map(examine);
    let makers: Vec<Maker> = native().into_iter().chain(engines).collect();
    if format.json {
        let text = serde_json::to_string_pretty(&makers).map_err(|error| CliError::System("print what was found", error.into()))?;
        println!("{text}");
        return Ok(());
    }
    makers.iter().for_each(|maker| tell(&describe(maker), 2));
    match makers.as_slice() {
        [Maker { backend: Some(NATIVE), refused: None, .. }] => println!("no engine was found, and none is needed"),
        [Maker { backend: Some(NATIVE), .. }] => println!("no engine was found"),
        [] => println!("no engine was found: start Docker or Podman, which make the boxes on this system"),
        _ => {}
    }
    Ok(())
}

/// torbox itself, where it makes boxes.
fn native() -> Option<Maker> {
    let identity = system::identity()?;
    let maker = Maker { backend: Some(NATIVE), found: "this program itself".to_owned(), address: None, can: Vec::new(), refused: None, hint: None };
    Some(match identity {
        Ok(Identity::Root { .. }) => Maker { can: vec!["containers as ids of nobody".to_owned()], ..maker },
        Ok(_) => Maker { can: vec!["containers without root, as your subordinate ids".to_owned()], ..maker },
        Err(error) => refused(maker, &error),
    })
}

fn examine(Found { origin, address, dialect }: Found) -> Maker {
    let about = Endpoint::new(&address).and_then(|endpoint| engine::about(&endpoint));
    let maker = Maker { backend: dialect.map(Dialect::name), found: origin.to_string(), address: Some(address), can: Vec::new(), refused: None, hint: None };
    match about {
        Err(error) => refused(maker, &error.into()),
        Ok(about) => {
            let maker = Maker { backend: Some(about.dialect.name()), can: abilities(&about), ..maker };
            match about.engine(None) {
                Ok(_) => maker,
                Err(error) => refused(maker, &error.into()),
            }
        }
    }
}

fn refused(maker: Maker, error: &CliError) -> Maker {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Maker { refused: Some(format!("{error}{cause}")), hint: error.hint(), ..maker }
}

fn abilities(about: &About) -> Vec<String> {
    let users = match about.users {
        Users::Host => "users are its host's",
        Users::Rootless => "without root",
        Users::Remapped => "users are mapped",
    };
    let limits = match about.cgroup {
        CgroupAccess::Delegated => "memory and process limits",
        CgroupAccess::None => "no memory and process limits",
    };
    let machine = match about.machine {
        Machine::This => "on this machine",
        Machine::Another => "in a machine of its own, to which this display's socket cannot be handed: the box is shown as a page",
    };
    vec![format!("version {}", about.version), users.to_owned(), limits.to_owned(), format!("OCI runtimes {}", about.runtimes.join(", ")), machine.to_owned()]
}

fn describe(maker: &Maker) -> String {
    let Maker { backend, found, address, can, refused, hint } = maker;
    let name = backend.filter(|name| *name != NATIVE).map(|name| format!("{name}, ")).unwrap_or_default();
    let place = address.as_deref().map(|address| format!(" at {address}")).unwrap_or_default();
    let verdict = refused.as_deref().map_or_else(|| "a box can be made".to_owned(), |reason| format!("refused: {reason}"));
    let more = can.iter().map(String::as_str).chain(hint.as_deref()).map(|line| format!("\n    {line}")).collect::<String>();
    format!("{name}{found}{place}: {verdict}{more}")
}
