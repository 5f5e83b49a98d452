//! What the documents say of the workspace, held against the workspace: crates and their order, where `unsafe` is, what every file
//! begins with, commands, guarantees. It reads files and `cargo metadata` and runs nothing but `torbox --help`.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use torbox_plan::{Role, seccomp};
use torbox_tests::process;

/// The crates that `torbox-plan` may use: none of them does I/O for it. proptest is for its tests.
const PLAN_USES: [&str; 5] = ["oci-spec", "serde", "serde_json", "syscalls", "thiserror"];
/// The only crate with unsafe code.
const UNSAFE: &str = "torbox-sys";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file of the repository, and those about to become one.
fn files() -> &'static [String] {
    static FILES: OnceLock<Vec<String>> = OnceLock::new();
    FILES.get_or_init(|| {
        let mut git = Command::new("git");
        // A checkout may belong to somebody else than who runs the tests.
        git.args(["-c", &format!("safe.directory={}", workspace().display()), "ls-files", "--cached", "--others", "--exclude-standard"]);
        let listed = process::output(git.current_dir(workspace())).unwrap();
        let listed = String::from_utf8(listed).unwrap();
        let there = |name: &&str| workspace().join(name).is_file();
        let mut files: Vec<_> = listed.lines().filter(there).map(str::to_owned).collect();
        files.sort();
        assert!(files.len() > 100, "{files:?}");
        files
    })
}

fn rust_files() -> impl Iterator<Item = &'static str> {
    files().iter().map(String::as_str).filter(|name| name.ends_with(".rs"))
}

/// A crate of the workspace.
struct Package {
    /// Its directory in the workspace.
    dir: String,
    /// What it depends on directly, by kind: `normal`, `dev` or `build`.
    uses: BTreeMap<String, Vec<String>>,
}

fn packages() -> &'static BTreeMap<String, Package> {
    static PACKAGES: OnceLock<BTreeMap<String, Package>> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
        cargo.args(["metadata", "--format-version", "1", "--offline", "--no-deps"]).current_dir(workspace());
        let metadata: Value = serde_json::from_slice(&process::output(&mut cargo).unwrap()).unwrap();
        metadata["packages"].as_array().unwrap().iter().map(package).collect()
    })
}

fn package(package: &Value) -> (String, Package) {
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    let dir = manifest.parent().unwrap().strip_prefix(workspace()).unwrap().to_str().unwrap().to_owned();
    let mut uses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for dependency in package["dependencies"].as_array().unwrap() {
        let kind = dependency["kind"].as_str().unwrap_or("normal");
        uses.entry(kind.to_owned()).or_default().push(dependency["name"].as_str().unwrap().to_owned());
    }
    (package["name"].as_str().unwrap().to_owned(), Package { dir, uses })
}

/// The dependencies of a crate that are crates of the workspace.
fn own_uses(package: &Package) -> impl Iterator<Item = &String> {
    package.uses.values().flatten().filter(|name| packages().contains_key(*name))
}

/// Name and directory of each row of the crate table.
fn crate_table() -> Vec<(String, String)> {
    let document = text("ARCHITECTURE.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` ("));
    let rows: Vec<_> = rows.map(|(name, rest)| (name.to_owned(), rest.split_once(')').unwrap().0.to_owned())).collect();
    assert!(rows.len() > 2, "no crate table was found");
    rows
}

#[test]
fn crate_table_lists_the_workspace() {
    let table: BTreeMap<_, _> = crate_table().into_iter().collect();
    let members: BTreeMap<_, _> = packages().iter().map(|(name, package)| (name.clone(), package.dir.clone())).collect();
    assert_eq!(table, members);
}

#[test]
fn dependencies_point_upwards_in_the_crate_table() {
    let order: Vec<_> = crate_table().into_iter().map(|(name, _)| name).collect();
    let place = |name: &String| order.iter().position(|other| other == name).unwrap();
    let mut seen = 0;
    for (name, package) in packages() {
        for used in own_uses(package) {
            seen += 1;
            assert!(place(used) < place(name), "{name} depends on {used}, which does not stand above it in ARCHITECTURE.md");
        }
    }
    assert!(seen > 3, "only {seen} dependencies were found");
}

#[test]
fn gate_depends_on_nothing_of_the_workspace() {
    assert_eq!(own_uses(&packages()["torbox-gate"]).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn plan_has_no_dependency_that_does_io() {
    let mut uses = packages()["torbox-plan"].uses["normal"].clone();
    uses.sort();
    assert_eq!(uses, PLAN_USES);
}

#[test]
fn plan_itself_does_no_io() {
    let words = ["std::fs", "std::net", "std::process", "std::env", "std::io", "std::thread", "std::time::Instant", "std::time::SystemTime", "async "];
    for name in rust_files().filter(|name| name.starts_with("runtime/plan/src/")) {
        let code = code(&text(name));
        // Its tests may read a file.
        let code = code.split("#[cfg(test)]").next().unwrap();
        words.iter().for_each(|word| assert!(!code.contains(word), "{name} has {word}"));
    }
}

#[test]
fn unsafe_is_forbidden_in_every_crate_but_one() {
    let root: Vec<_> = section(&text("Cargo.toml"), "[workspace.lints.rust]");
    assert!(root.contains(&"unsafe_code = \"forbid\"".to_owned()), "{root:?}");
    for (name, package) in packages() {
        let manifest = text(&format!("{}/Cargo.toml", package.dir));
        let inherits = section(&manifest, "[lints]").contains(&"workspace = true".to_owned());
        assert_eq!(inherits, name != UNSAFE, "{name} takes the workspace's lints");
    }
}

/// The lines of a section of a manifest.
fn section(manifest: &str, heading: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != heading).skip(1);
    lines.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect()
}

#[test]
fn unsafe_is_nowhere_else_and_always_explained() {
    let mut blocks = 0;
    for name in rust_files() {
        let text = text(name);
        let found = unsafe_lines(&text);
        if !name.starts_with("runtime/sys/src/") {
            assert!(found.is_empty(), "{name}: unsafe code in line {}", found[0] + 1);
            continue;
        }
        let lines: Vec<_> = text.lines().collect();
        for line in found {
            blocks += 1;
            let mut above = lines[..line].iter().rev().take_while(|line| line.trim_start().starts_with("//"));
            assert!(above.any(|line| line.trim_start().starts_with("// SAFETY: ")), "{name}:{}: no SAFETY comment", line + 1);
        }
    }
    assert!(blocks > 0, "the search finds unsafe code where there is some");
}

/// Numbers of the lines with the keyword as code.
fn unsafe_lines(text: &str) -> Vec<usize> {
    let code = code(text);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.lines().enumerate().filter(|(_, line)| line.split(|c| !is_word(c)).any(|word| word == "unsafe")).map(|(number, _)| number).collect()
}

/// Rust source with its comments and the content of its strings blanked out; lines stay where they are.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (taken, kept) = match first {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            '/' if rest.starts_with("/*") => (rest.find("*/").map_or(rest.len(), |end| end + 2), false),
            '"' => (string_end(rest), false),
            'r' if raw_start(rest).is_some() && !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') => (raw_end(rest), false),
            // A character that would open a string or be taken for one's end.
            '\'' if rest.starts_with("'\"'") || rest.starts_with("'\\'") => (3 + usize::from(rest.starts_with("'\\'")), false),
            other => (other.len_utf8(), true),
        };
        let (part, after) = rest.split_at(taken.min(rest.len()));
        if kept { out.push_str(part) } else { out.extend(part.chars().filter(|c| *c == '\n').chain([' '])) }
        rest = after;
    }
    out
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(place, _)| place + 1)
}

/// How many `#` a raw string begins with, if `text` begins with one.
fn raw_start(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn raw_end(text: &str) -> usize {
    let hashes = raw_start(text).unwrap();
    let end = format!("\"{}", "#".repeat(hashes));
    let content = hashes + 2;
    text[content..].find(&end).map_or(text.len(), |place| content + place + end.len())
}

#[test]
fn the_search_for_code_sees_code_alone() {
    let cases = [
        ("unsafe { x() }", 1),
        ("let x = unsafe { y() };", 1),
        ("// unsafe\nlet x = 1;", 0),
        ("//! unsafe\n/* unsafe */ fn f() {}", 0),
        ("let s = \"unsafe\"; let t = \"a\\\"unsafe\";", 0),
        ("let s = r#\"unsafe \" \"#; let q = '\"'; unsafe {}", 1),
        ("let a = '\\''; let b = \"unsafe\"; fn unsafe_name() {}", 0),
        ("let s = \"two\nlines\";\nunsafe {}", 1),
    ];
    for (text, count) in cases {
        assert_eq!(unsafe_lines(text).len(), count, "{text}");
    }
    assert_eq!(unsafe_lines("let s = \"two\nlines\";\nunsafe {}"), [2], "lines stay where they are");
}

#[test]
fn every_file_says_what_it_is_for() {
    for name in rust_files() {
        assert!(text(name).starts_with("//! "), "{name} does not begin with its purpose");
    }
}

/// Hosts that addresses in the repository may have besides `*.example`, `*.test`, `*.onion` and addresses of this machine.
const HOSTS: [&str; 11] = [
    "archive.torproject.org", // these five: where Tor Browser's releases are, in its recipe
    "aus1.torproject.org",
    "dist.torproject.org",
    "openpgpkey.torproject.org",
    "www.torproject.org",
    "bridges.torproject.org", // the service that is asked for bridges
    "example.org",         // the address of the documents' commands
    "keepachangelog.com",
    "rustup.rs",
    "www.apache.org", // the licence's own
    "www.w3.org",     // the name of SVG's elements
];

#[test]
fn no_file_names_a_package_mirror_or_a_foreign_host() {
    let mut seen = 0;
    for (name, text) in texts() {
        for host in hosts(&text) {
            seen += 1;
            assert!(is_allowed(host), "{name} has an address of {host:?}");
            assert!(!host.contains("debian"), "{name} names a mirror: {host:?}");
        }
        // A mirror's host also without an address.
        let mirrors = ["deb.", "ftp.", "security.", "snapshot.", "archive."].map(|part| format!("{part}debian.org"));
        mirrors.iter().for_each(|mirror| assert!(!text.contains(mirror.as_str()), "{name} names {mirror}"));
    }
    assert!(seen > 10, "only {seen} addresses were found");
}

/// Every file that is text, but for Cargo's own list of crates.
fn texts() -> impl Iterator<Item = (&'static str, String)> {
    let names = files().iter().map(String::as_str).filter(|name| !name.ends_with("Cargo.lock"));
    names.filter_map(|name| Some((name, String::from_utf8(fs::read(workspace().join(name)).unwrap()).ok()?)))
}

fn hosts(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || "-.@".contains(c));
    ["http://", "https://"].into_iter().flat_map(move |scheme| text.split(scheme).skip(1).map(move |rest| rest.split(ends).next().unwrap_or_default()))
}

fn is_allowed(host: &str) -> bool {
    let host = host.rsplit('@').next().unwrap_or_default();
    let example = host.split('.').rev().take(2).any(|part| ["example", "test", "invalid", "onion", "local", "localhost"].contains(&part));
    let number = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    // One word is no host of the Internet.
    example || number || !host.contains('.') || HOSTS.contains(&host)
}

#[test]
fn hosts_are_found_in_text() {
    let found: Vec<_> = hosts("see http://a.example/x and <https://b.example:80/>").collect();
    assert_eq!(found, ["a.example", "b.example"]);
    assert!(is_allowed("m.example") && is_allowed("127.0.0.1") && !is_allowed("a.com") && !is_allowed("example.a.com"));
}

/// Where a path below a home directory may stand, and why.
const PATHS: [(&str, &str); 9] = [
    ("tests/src/boxed.rs", "\"/root\""),                     // the environment of root's torbox is built, not inherited
    ("tests/src/left.rs", "/dev/root "),                     // the example line of proc_pid_mountinfo(5)
    ("runtime/backend/src/native/observe.rs", "/dev/root "), // the same
    ("runtime/init/src/probe/host.rs", "\"/root\""),           // the same
    ("runtime/init/src/probe/files.rs", "\"/root\""),          // a place that no box has
    ("tests/src/bin/torbox-weak.rs", "\"/root/path\""),       // a JSON pointer (RFC 6901)
    ("tests/tests/mutations.rs", "\"/root/readonly\""),       // the same
    ("tests/src/vm.rs", "root:x:0:0::/root:"),               // passwd(5) of a virtual machine
    ("tests/tests/tidy.rs", "/root"),                        // this list
];

#[test]
fn no_file_names_a_path_of_one_machine() {
    let names_machine = |line: &str| ["/root", "/work"].iter().any(|dir| has_directory(line, dir));
    for (name, text) in texts() {
        for line in text.lines().filter(|line| names_machine(line)) {
            let allowed = PATHS.iter().any(|(file, part)| *file == name && line.contains(part));
            assert!(allowed, "{name} names a path of one machine: {line}");
        }
    }
}

/// Whether `dir` stands in `line` as the beginning of an absolute path.
fn has_directory(line: &str, dir: &str) -> bool {
    line.match_indices(dir).any(|(place, _)| {
        let before = line[..place].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && !"._-}~".contains(c));
        let after = line[place + dir.len()..].chars().next().is_none_or(|c| !c.is_alphanumeric() && !"_-.".contains(c));
        before && after
    })
}

#[test]
fn machine_paths_are_told_from_others() {
    let dir = ["/ro", "ot"].concat();
    for (line, found) in [("cd {}/x", true), ("\"{}\"", true), ("a{}/b", false), ("{}fs", false), ("./x{}", false)] {
        assert_eq!(has_directory(&line.replace("{}", &dir), &dir), found, "{line}");
    }
}

/// `torbox WORDS... --help`, which fails for a command that does not exist.
fn help(words: &[&str]) -> Option<String> {
    let own = std::env::current_exe().unwrap();
    let torbox = own.ancestors().map(|dir| dir.join("torbox")).find(|file| file.is_file()).expect("torbox is not built: make build");
    let done = Command::new(torbox).args(words).arg("--help").env_clear().stdin(Stdio::null()).output().unwrap();
    done.status.success().then(|| String::from_utf8(done.stdout).unwrap())
}

/// What is wrong with a command line that begins with `torbox`, if anything.
fn fault(line: &str) -> Option<String> {
    let words: Vec<_> = line.split_whitespace().skip(1).collect();
    let Some(command) = words.first() else { return Some("it has no command".to_owned()) };
    let Some(help) = help(&[command]) else { return Some(format!("there is no command {command}")) };
    let known: BTreeSet<_> = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).collect();
    let unknown = words[1..].iter().filter(|word| word.starts_with('-')).find(|word| !known.contains(word.split('=').next().unwrap_or_default()));
    unknown.map(|flag| format!("{command} has no option {flag}"))
}

#[test]
fn commands_of_the_readme_exist() {
    let readme = text("README.md");
    let blocks = readme.split("```").skip(1).step_by(2).filter(|block| block.starts_with("sh")).flat_map(str::lines).map(|line| line.split('#').next().unwrap_or_default());
    // Code in running text has a single tick on both sides.
    let prose: String = readme.split("```").step_by(2).collect();
    let spans: Vec<_> = prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect();
    let commands: Vec<_> = blocks.map(str::trim).chain(spans.iter().map(String::as_str)).filter(|line| line.starts_with("torbox ")).collect();
    assert!(commands.len() >= 4, "{commands:?}");
    for command in commands {
        assert_eq!(fault(command), None, "{command}");
    }
    assert!(fault("torbox remove").is_some() && fault("torbox run --no-such").is_some(), "a wrong command is found");
}

/// What is explained by its message is a message.
#[test]
fn messages_that_are_explained_are_said() {
    let document = text("docs/troubleshooting.md");
    let messages: Vec<_> = document.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    assert!(messages.len() > 5, "{messages:?}");
    let said = |message: &str| rust_files().filter(|name| name.starts_with("runtime/") || name.starts_with("images/src/")).any(|name| text(name).contains(message));
    messages.iter().for_each(|message| assert!(said(message), "nothing says {message:?}"));
    assert!(!said(concat!("what nothing ", "says")));
}

/// A hint must not send its reader to a command that does not exist.
#[test]
fn commands_of_hints_exist() {
    let mut seen = 0;
    for name in rust_files().filter(|name| name.starts_with("runtime/") || name.starts_with("images/src/")) {
        for hint in hints(&text(name)) {
            seen += 1;
            assert_eq!(fault(&format!("torbox {hint}")), None, "{name}: \"torbox {hint} ...\"");
        }
    }
    assert!(seen > 2, "only {seen} commands were found in hints");
}

/// The word after `torbox ` at the beginning of a string, where it is in lower case and not followed by a `:`.
fn hints(text: &str) -> Vec<&str> {
    let starts = text.split("\"torbox ").skip(1);
    let words = starts.map(|rest| rest.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default());
    words.filter(|word| !["image", "uses", "keeps", "stand", ""].contains(word)).collect()
}

#[test]
fn every_guarantee_has_a_test() {
    let document = text("SECURITY.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| G")?.split_once(' '));
    let guarantees: Vec<u32> = rows.map(|(number, _)| number.parse().unwrap()).collect();
    assert!(!guarantees.is_empty(), "SECURITY.md lists no guarantee");
    let tests: Vec<_> = rust_files().flat_map(|name| test_names(&text(name))).collect();
    let unproved: Vec<_> = guarantees.iter().filter(|number| !tests.iter().any(|test| test.starts_with(&format!("g{number}_")))).collect();
    assert!(unproved.is_empty(), "no test proves G{unproved:?}");
    let promised = |test: &&String| test.strip_prefix('g').and_then(|rest| rest.split_once('_')?.0.parse().ok());
    for test in &tests {
        assert!(promised(&test).is_none_or(|number| guarantees.contains(&number)), "{test} proves a guarantee that SECURITY.md does not give");
    }
}

#[test]
fn every_guarantee_names_its_tests() {
    // A function, or the name that a macro gives to one.
    let exists = |test: &str| rust_files().map(text).any(|file| [format!("fn {test}("), format!(" {test}: ")].iter().any(|form| file.contains(form)));
    let document = text("SECURITY.md");
    let rows: Vec<Vec<&str>> = document.lines().filter(|line| line.starts_with("| G")).map(|row| row.trim_matches(['|', ' ']).split(" | ").collect()).collect();
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        let [guarantee, _, tests] = row.as_slice() else { panic!("a guarantee has a number, a promise and tests: {row:?}") };
        let number = guarantee.to_lowercase();
        let named: Vec<_> = tests.split(", ").map(|test| test.trim_matches('`')).collect();
        let strange: Vec<_> = named.iter().filter(|test| !test.split('_').any(|word| word == number) || !exists(test)).collect();
        assert!(strange.is_empty(), "{guarantee} names what is no test of it: {strange:?}");
    }
}

/// Lines of code of torbox that make and hold a box on Linux, without tests, comments and blanks.
fn lines_of_the_parent() -> usize {
    let of_parent = |name: &&str| ["plan", "sys", "backend", "cli"].iter().any(|part| name.starts_with(&format!("runtime/{part}/src/"))) || *name == "runtime/gate/src/domain.rs";
    let elsewhere = |name: &&str| ["elsewhere", "macos", "windows"].iter().any(|system| name.ends_with(&format!("/system/{system}.rs")));
    let lines = |name: &str| code(text(name).split("#[cfg(test)]").next().unwrap()).lines().filter(|line| !line.trim().is_empty()).count();
    rust_files().filter(of_parent).filter(|name| !elsewhere(name)).map(lines).sum()
}

/// Crates that are linked into `torbox` on Linux, its own among them.
fn crates_of_the_parent() -> usize {
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["tree", "-p", "torbox", "-e", "normal", "--target", "x86_64-unknown-linux-gnu", "--prefix", "none", "--offline", "--locked"]);
    let tree = String::from_utf8(process::output(cargo.current_dir(workspace())).unwrap()).unwrap();
    let crates: BTreeSet<_> = tree.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>()).collect();
    crates.len()
}

/// The number in the row of SECURITY.md that begins with `what`.
fn counted(what: &str) -> usize {
    let document = text("SECURITY.md");
    let row = document.lines().find_map(|line| line.strip_prefix(&format!("| {what} | "))?.strip_suffix(" |"));
    let number = row.unwrap_or_else(|| panic!("SECURITY.md has no row {what:?}"));
    number.trim_start_matches("at most ").replace(',', "").parse().unwrap()
}

#[test]
fn g12_what_is_trusted_is_as_small_as_the_document_says() {
    for (what, found, step) in [("lines of code", lines_of_the_parent(), 500), ("crates", crates_of_the_parent(), 25)] {
        let said = counted(what);
        assert!(found <= said && said < found + 2 * step, "{what}: {found}, and SECURITY.md says at most {said}");
    }
    for process in seccomp::Process::ALL {
        let profile = seccomp::process_profile(process).unwrap();
        let found: usize = profile.rules.iter().map(|rule| rule.calls.len()).sum();
        assert_eq!(counted(&format!("system calls of {process}")), found, "{process}");
    }
}

#[test]
fn the_table_of_profiles_says_what_they_allow() {
    let profiles = Role::ALL.map(|role| (role.to_string(), seccomp::profile(role).unwrap())).into_iter();
    let profiles = profiles.chain(seccomp::Process::ALL.map(|process| (process.to_string(), seccomp::process_profile(process).unwrap())));
    let document = text("docs/measurements.md");
    for (name, profile) in profiles {
        let count = |rules: &mut dyn Iterator<Item = &seccomp::Rule>| rules.map(|rule| rule.calls.len()).sum::<usize>();
        let (all, some) = (count(&mut profile.rules.iter()), count(&mut profile.rules.iter().filter(|rule| !rule.when.is_empty())));
        assert!(document.contains(&format!("\n| torbox {name} | {all} | {some} | ")), "{name}: {all}, {some} by argument");
    }
}

/// The functions that are tests.
fn test_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in code(text).lines().map(str::trim) {
        is_test |= line == "#[test]";
        if let Some(name) = line.strip_prefix("fn ").filter(|_| is_test) {
            names.push(name.split('(').next().unwrap_or_default().to_owned());
            is_test = false;
        }
    }
    names
}

#[test]
fn tests_are_told_from_other_functions() {
    assert_eq!(test_names("#[test]\n#[ignore]\nfn g1_a() {}\nfn g2_b() {}\n// #[test]\nfn g3_c() {}"), ["g1_a"]);
}
