//! What a test needs from the machine. A test that cannot run says why; where `TORBOX_MUST_WORK=1` is set that is a failure.

use std::env;
use std::path::PathBuf;

/// One thing that a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// The effective user 0.
    Root,
    /// A program in `PATH` or one of the system's directories.
    Program(&'a str),
    /// A file that something else has to make first.
    File(&'a str),
}

/// The first of `needs` that is absent, as a sentence.
#[must_use]
pub fn missing(needs: &[Need<'_>]) -> Option<String> {
    needs.iter().find_map(|need| match need {
        Need::Root => (!is_root()).then(|| "it needs root".to_owned()),
        Need::Program(name) => program(name).is_none().then(|| format!("it needs the program {name}")),
        Need::File(path) => (!PathBuf::from(path).exists()).then(|| format!("it needs {path}")),
    })
}

/// Whether the effective user is 0.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where a program is: `PATH`, then the system's own directories, which an unprivileged `PATH` often leaves out.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Whether a test must run here.
#[must_use]
pub fn must_work() -> bool {
    env::var_os("TORBOX_MUST_WORK").is_some_and(|v| v == "1")
}

/// Leaves the test, saying why, where one of the named programs is missing; `root` stands for the user 0.
/// With `TORBOX_MUST_WORK=1` it panics instead.
#[macro_export]
macro_rules! require {
    ($($need:expr),+ $(,)?) => {
        let needs = [$(if $need == "root" { $crate::require::Need::Root } else { $crate::require::Need::Program($need) }),+];
        if let Some(why) = $crate::require::missing(&needs) {
            assert!(!$crate::require::must_work(), "cannot run: {why}");
            eprintln!("NOT RUN {}: {why}", module_path!());
            return Default::default();
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        let cases = [
            (vec![Need::Program("sh")], None),
            (vec![Need::Program("sh"), Need::Program("no-such-program")], Some("it needs the program no-such-program")),
            (vec![Need::File("/no/such/file")], Some("it needs /no/such/file")),
        ];
        for (needs, why) in cases {
            assert_eq!(missing(&needs).as_deref(), why, "{needs:?}");
        }
    }
}
