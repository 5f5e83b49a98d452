//! Debian's own tools as judges: apt resolves from an archive of the test's what torbox resolves, and gpgv accepts what it accepts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::allow_attributes, missing_docs, unreachable_pub, dead_code, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path, process::Command};
use support::{Bench, Quiet, Repository, TOR_RECIPE, now, skip};
use torbox_images::{Recipe, build_from};

/// Alternatives, virtual packages with and without versions, epochs, tildes, a cycle, and a package that is there twice.
const PACKAGES: [(&str, &str, &str); 15] = [
    ("server", "1.0-1", "Depends: lib (>= 2~), absent | either, virtual, versioned (>= 2), cycle-a\n"),
    ("lib", "1.9", ""),
    ("lib", "2~rc1-1", "Pre-Depends: base (>> 1:0)\n"),
    ("base", "9", ""),
    ("base", "1:0.1", "Depends: other | helper\n"),
    ("either", "0.5", "Depends: other\n"),
    ("other", "1", ""),
    ("helper", "1", ""),
    ("provider-b", "1", "Provides: versioned (= 1)\n"),
    ("provider-c", "1", "Provides: versioned (= 2.1), unused\n"),
    ("provider-d", "1", "Provides: virtual\n"),
    ("cycle-a", "1", "Depends: cycle-b (= 3)\n"),
    ("cycle-b", "3", "Depends: cycle-a\n"),
    ("cycle-b", "2", ""),
    ("unrelated", "1", "Depends: missing\n"),
];

/// `name=version` of everything that apt would install, sorted; none where there is no apt.
fn by_apt(dir: &Path, repository: &Repository) -> Option<Vec<String>> {
    for part in ["state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d", "log"] {
        fs::create_dir_all(dir.join(part)).unwrap();
    }
    let key = dir.join("key.asc");
    fs::write(&key, repository.key.public()).unwrap();
    fs::write(dir.join("status"), "").unwrap();
    fs::write(dir.join("sources.list"), format!("deb [signed-by={} arch=amd64] {}/debian test main\n", key.display(), repository.server.url)).unwrap();
    let settings = [("", ""), ("::State", "/state"), ("::State::status", "/status"), ("::Cache", "/cache"), ("::Log", "/log"), ("::Etc", "/etc"), ("::Etc::sourcelist", "/sources.list")];
    let mut config: String = settings.iter().map(|(name, path)| format!("Dir{name} \"{}{path}\";\n", dir.display())).collect();
    config += "Dir::Etc::sourceparts \"-\"; APT::Install-Recommends \"false\"; APT::Architecture \"amd64\"; APT::Architectures \"amd64\"; Acquire::Languages \"none\";\n";
    config += "Debug::NoLocking \"true\"; APT::Sandbox::User \"root\"; Acquire::http::Proxy \"false\"; Acquire::Check-Valid-Until \"false\";\n";
    fs::write(dir.join("apt.conf"), config).unwrap();
    let apt = |arguments: &[&str]| Command::new("apt-get").args(arguments).env("APT_CONFIG", dir.join("apt.conf")).env("LC_ALL", "C").output();
    let update = apt(&["update"]).ok()?;
    let shown = |output: &std::process::Output| format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(update.status.success() && !shown(&update).contains("Err:"), "{}", shown(&update));
    let simulated = apt(&["install", "-s", "server"]).unwrap();
    assert!(simulated.status.success(), "{}", shown(&simulated));
    let text = shown(&simulated);
    let lines = text.lines().filter_map(|line| line.strip_prefix("Inst "));
    let mut found: Vec<String> = lines.map(|line| line.split([' ', '(']).filter(|word| !word.is_empty()).take(2).collect::<Vec<_>>().join("=")).collect();
    found.sort();
    Some(found)
}

#[test]
fn apt_chooses_the_same_packages() {
    let (bench, repository) = (Bench::new(), Repository::new());
    repository.publish_packages(&PACKAGES);
    let recipe = Recipe::parse("test", TOR_RECIPE).unwrap();
    let image = build_from(&bench.store(), &recipe, &repository.trust(), now(), &bench.request(&repository.server.url), &mut Quiet).unwrap();
    let lock = fs::read_to_string(bench.store().lock_path(&image)).unwrap();
    let field = |name: &str| lock.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"')).map(str::to_owned).collect::<Vec<_>>();
    let mut ours: Vec<String> = field("name").iter().zip(field("version")).map(|(name, version)| format!("{name}={version}")).collect();
    ours.sort();
    assert_eq!(ours, ["base=1:0.1", "cycle-a=1", "cycle-b=3", "either=0.5", "lib=2~rc1-1", "other=1", "provider-c=1", "provider-d=1", "server=1.0-1"]);
    match by_apt(&bench.dir, &repository) {
        Some(theirs) => assert_eq!(ours, theirs),
        None => skip("apt-get is not installed"),
    }
}
