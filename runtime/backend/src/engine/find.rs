//! Where engines listen: from the environment, Docker's contexts and the places that products use. Reads files, connects to nothing.

use crate::system::{has_pipe, is_trusted};
use serde::Deserialize;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use torbox_plan::engine::Dialect;

/// What is needed of the environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `CONTAINER_HOST`, Podman's.
    pub container_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub docker_context: Option<String>,
    /// `DOCKER_CONFIG`, the directory of Docker's client.
    pub docker_config: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `TMPDIR`.
    pub temporary: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// Below which the system's own places are looked for: `/`.
    pub root: PathBuf,
}

impl Environment {
    /// This process's.
    #[must_use]
    pub fn current() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path = |name: &str| text(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            docker_host: text("DOCKER_HOST"),
            container_host: text("CONTAINER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            docker_config: path("DOCKER_CONFIG"),
            runtime_dir: path("XDG_RUNTIME_DIR"),
            temporary: path("TMPDIR"),
            home: path("HOME").or_else(|| path("USERPROFILE")),
            root: PathBuf::from("/"),
        }
    }
}

/// How an engine was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A variable of the environment.
    Variable(&'static str),
    /// A context of Docker's client.
    Context(String),
    /// The place where a product puts its socket.
    Product(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::Context(name) => write!(f, "context {name}"),
            Self::Product(name) => f.write_str(name),
        }
    }
}

/// A place where an engine may listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How it was found.
    pub origin: Origin,
    /// Where it is, in the words of whoever named it: not every address is one that a box is made at.
    pub address: String,
    /// Whose API is expected there, where the place tells.
    pub dialect: Option<Dialect>,
}

/// The directory below which a product puts its socket.
#[derive(Clone, Copy)]
enum Base {
    Home,
    Runtime,
    Temporary,
    System,
}

/// Where products listen. A `*` stands for any one name: that of a profile or a machine.
const PLACES: [(&str, Base, &str, Dialect); 18] = [
    ("rootless Docker", Base::Runtime, "docker.sock", Dialect::Docker),
    ("rootless Podman", Base::Runtime, "podman/podman.sock", Dialect::Podman),
    ("Podman machine", Base::Runtime, "podman/podman-machine-*.sock", Dialect::Podman),
    ("Docker Desktop", Base::Home, ".docker/desktop/docker.sock", Dialect::Docker),
    ("Docker Desktop", Base::Home, ".docker/run/docker.sock", Dialect::Docker),
    ("Colima", Base::Home, ".colima/*/docker.sock", Dialect::Docker),
    ("Colima", Base::Home, ".config/colima/*/docker.sock", Dialect::Docker),
    ("Lima", Base::Home, ".lima/*/sock/docker.sock", Dialect::Docker),
    ("Lima", Base::Home, ".lima/*/sock/podman.sock", Dialect::Podman),
    ("Rancher Desktop", Base::Home, ".rd/docker.sock", Dialect::Docker),
    ("OrbStack", Base::Home, ".orbstack/run/docker.sock", Dialect::Docker),
    ("Podman machine", Base::Temporary, "podman/podman-machine-*.sock", Dialect::Podman),
    ("Podman machine", Base::Home, ".local/share/containers/podman/machine/podman.sock", Dialect::Podman),
    ("Podman machine", Base::Home, ".local/share/containers/podman/machine/*/podman.sock", Dialect::Podman),
    ("Docker", Base::System, "run/docker.sock", Dialect::Docker),
    ("Docker", Base::System, "var/run/docker.sock", Dialect::Docker),
    ("Podman", Base::System, "run/podman/podman.sock", Dialect::Podman),
    ("Docker as a snap", Base::System, "run/snap.docker/docker.sock", Dialect::Docker),
];
/// Named pipes of Windows, which cannot be looked for by name elsewhere.
const PIPES: [(&str, &str, Dialect); 3] = [
    ("Docker Desktop", "docker_engine", Dialect::Docker),
    ("Docker Desktop", "dockerDesktopLinuxEngine", Dialect::Docker),
    ("Podman machine", "podman-machine-default", Dialect::Podman),
];

/// Every place where an engine may listen, the caller's own choice first; each once.
#[must_use]
pub fn find(environment: &Environment) -> Vec<Found> {
    let variables = [("DOCKER_HOST", &environment.docker_host, None), ("CONTAINER_HOST", &environment.container_host, Some(Dialect::Podman))];
    let named = variables.into_iter().filter_map(|(name, value, dialect)| Some(Found { origin: Origin::Variable(name), address: value.clone()?, dialect }));
    let products = PLACES.iter().flat_map(|(product, base, path, dialect)| {
        let found = base.of(environment).map(|directory| matching(directory, path)).unwrap_or_default();
        found.into_iter().map(|socket| Found { origin: Origin::Product(product), address: format!("unix://{}", socket.display()), dialect: Some(*dialect) })
    });
    let mut found: Vec<Found> = Vec::new();
    for one in named.chain(contexts(environment)).chain(products).chain(pipes()) {
        if !found.iter().any(|earlier| same(&earlier.address, &one.address)) {
            found.push(one);
        }
    }
    found
}

impl Base {
    fn of(self, environment: &Environment) -> Option<&Path> {
        match self {
            Self::Home => environment.home.as_deref(),
            Self::Runtime => environment.runtime_dir.as_deref(),
            Self::Temporary => environment.temporary.as_deref(),
            Self::System => Some(&environment.root),
        }
    }
}

/// The paths below `directory` that are there and have the form of `pattern`, in which one component may have a `*`.
fn matching(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return Some(directory.join(pattern)).filter(|path| is_trusted(path)).into_iter().collect() };
    let (parent, begin) = before.rsplit_once('/').unwrap_or(("", before));
    let (end, rest) = after.split_once('/').map_or((after, None), |(end, rest)| (end, Some(rest)));
    let entries = fs::read_dir(directory.join(parent)).into_iter().flatten().flatten().map(|entry| entry.path());
    let fits = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end));
    let mut found: Vec<PathBuf> = entries.filter(fits).map(|path| rest.map_or_else(|| path.clone(), |rest| path.join(rest))).filter(|path| is_trusted(path)).collect();
    found.sort();
    found
}

fn pipes() -> impl Iterator<Item = Found> {
    let here = PIPES.iter().filter(|(_, name, _)| has_pipe(name));
    here.map(|(product, name, dialect)| Found { origin: Origin::Product(product), address: format!("npipe:////./pipe/{name}"), dialect: Some(*dialect) })
}

/// Two names of one socket: /var/run is a link to /run.
fn same(one: &str, other: &str) -> bool {
    let real = |address: &str| address.strip_prefix("unix://").and_then(|path| fs::canonicalize(path).ok());
    one == other || real(one).is_some_and(|path| Some(path) == real(other))
}

/// Docker's client: its contexts, and which is in use (`~/.docker/config.json`), kept in a file below `contexts/meta`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientConfig {
    current_context: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Context {
    name: String,
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: DockerEndpoint,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEndpoint {
    host: Option<String>,
}

/// Docker's contexts, the one in use first. The one named `default` is kept in no file: it is the socket of the system.
fn contexts(environment: &Environment) -> Vec<Found> {
    let Some(directory) = environment.docker_config.clone().or_else(|| Some(environment.home.as_ref()?.join(".docker"))) else { return Vec::new() };
    let configured = || serde_json::from_slice::<ClientConfig>(&fs::read(directory.join("config.json")).ok()?).ok()?.current_context;
    let current = environment.docker_context.clone().or_else(configured);
    let entries = fs::read_dir(directory.join("contexts/meta")).into_iter().flatten().flatten();
    let mut contexts: Vec<Context> = entries.filter_map(|entry| serde_json::from_slice(&fs::read(entry.path().join("meta.json")).ok()?).ok()).collect();
    contexts.sort_by_key(|context| (Some(&context.name) != current.as_ref(), context.name.clone()));
    let found = |context: Context| Some(Found { origin: Origin::Context(context.name), address: context.endpoints.docker.host?, dialect: None });
    contexts.into_iter().filter_map(found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A machine's file system, in a directory of its own.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("torbox-find-{name}-{}", std::process::id()));
            fs::create_dir(&root).unwrap();
            Self(root)
        }

        fn socket(&self, path: &str) -> String {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            UnixListener::bind(&path).unwrap();
            format!("unix://{}", path.display())
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn environment(&self) -> Environment {
            Environment { home: Some(self.0.join("home/user")), runtime_dir: Some(self.0.join("run/user/1000")), temporary: Some(self.0.join("folders/T")), root: self.0.clone(), ..Environment::default() }
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn told(found: &[Found]) -> Vec<(String, &str)> {
        found.iter().map(|found| (found.origin.to_string(), found.address.as_str())).collect()
    }

    #[test]
    fn a_machine_without_engines_has_none() {
        let machine = Machine::new("none");
        assert_eq!(find(&machine.environment()), []);
        assert_eq!(find(&Environment { root: machine.0.clone(), ..Environment::default() }), []);
    }

    #[test]
    fn every_product_is_found_where_it_listens() {
        let machine = Machine::new("each");
        for (product, base, path, dialect) in PLACES {
            let below = match base {
                Base::Home => "home/user/",
                Base::Runtime => "run/user/1000/",
                Base::Temporary => "folders/T/",
                Base::System => "",
            };
            let address = machine.socket(&format!("{below}{}", path.replace('*', "x")));
            let found = find(&machine.environment());
            assert!(found.iter().any(|found| found.address == address && found.dialect == Some(dialect)), "{product} at {path}: {found:?}");
            fs::remove_file(address.strip_prefix("unix://").unwrap()).unwrap();
            assert_eq!(find(&machine.environment()), [], "{product}");
        }
    }

    #[test]
    fn a_socket_of_somebody_else_is_not_found() {
        let machine = Machine::new("foreign");
        let address = machine.socket("run/docker.sock");
        assert_eq!(find(&machine.environment()).len(), 1, "the positive control");
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(address.strip_prefix("unix://").unwrap(), Some(4321), None).unwrap();
            assert_eq!(find(&machine.environment()), []);
        }
    }

    #[test]
    fn the_callers_choice_comes_first_and_every_socket_once() {
        let machine = Machine::new("order");
        let [system, desktop, two, one] = ["run/docker.sock", "home/user/.docker/desktop/docker.sock", "home/user/.colima/two/docker.sock", "home/user/.colima/one/docker.sock"].map(|path| machine.socket(path));
        std::os::unix::fs::symlink(machine.0.join("run"), machine.0.join("var-run")).unwrap();
        machine.write("home/user/.docker/config.json", r#"{"currentContext": "far", "auths": {}}"#);
        machine.write("home/user/.docker/contexts/meta/1/meta.json", &format!(r#"{{"Name": "desktop-linux", "Metadata": {{}}, "Endpoints": {{"docker": {{"Host": "{desktop}"}}}}}}"#));
        machine.write("home/user/.docker/contexts/meta/2/meta.json", r#"{"Name": "far", "Endpoints": {"docker": {"Host": "ssh://far.example"}}}"#);
        machine.write("home/user/.docker/contexts/meta/3/meta.json", "not JSON");
        let link = format!("unix://{}", machine.0.join("var-run/docker.sock").display());
        let environment = Environment { docker_host: Some(link.clone()), ..machine.environment() };
        let expected = [("DOCKER_HOST", &link), ("context far", &"ssh://far.example".to_owned()), ("context desktop-linux", &desktop), ("Colima", &one), ("Colima", &two)];
        assert_eq!(told(&find(&environment)), expected.map(|(origin, address)| (origin.to_owned(), address.as_str())));
        let chosen = Environment { docker_context: Some("desktop-linux".to_owned()), ..machine.environment() };
        assert_eq!(told(&find(&chosen)).first(), Some(&("context desktop-linux".to_owned(), desktop.as_str())));
        assert!(told(&find(&chosen)).contains(&("Docker".to_owned(), system.as_str())));
    }
}
