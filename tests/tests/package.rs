//! The packages as their users get them: judged by lintian, installed into a Debian that has nothing of the build, used, and removed.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use torbox_tests::debian::{self, Debian};
use torbox_tests::require;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// What `command` prints; it must succeed.
fn output(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}: {}{said}", String::from_utf8_lossy(&done.stdout));
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn root_the_debian_package_is_clean_and_leaves_nothing() {
    require!("root", "make", "lintian", "unshare", "nsenter", "objdump");
    if !debian::root().unwrap().is_dir() {
        assert!(!require::must_work(), "out/debian is not made: make out/debian");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let package = PathBuf::from(debian::made("deb-built", out.path()).unwrap());
    assert_eq!(output(Command::new("lintian").args(["--allow-root", "--fail-on", "error,warning"]).arg(&package)), "");
    output(Command::new("sha256sum").args(["--check", "--quiet", "--strict", "SHA256SUMS"]).current_dir(out.path()));
    let debian = Debian::start(None).unwrap();
    std::fs::copy(&package, debian.path("/tmp/torbox.deb")).unwrap();
    let before = debian.files().unwrap();
    debian.root(&["dpkg", "--install", "/tmp/torbox.deb"]).unwrap();
    let during = debian.files().unwrap();
    assert_eq!(debian.root(&["torbox", "--version"]).unwrap(), format!("torbox {}\n", env!("CARGO_PKG_VERSION")));
    let doctor: serde_json::Value = serde_json::from_str(&debian.root(&["torbox", "doctor", "--json"]).unwrap()).unwrap();
    assert!(doctor.is_object() || doctor.is_array(), "{doctor}");
    debian.root(&["dpkg", "--purge", "torbox"]).unwrap();
    assert_eq!(debian.files().unwrap().symmetric_difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
    for installed in ["./usr/bin/torbox", "./usr/libexec/torbox/init", "./etc/apparmor.d/torbox", "./usr/share/man/man1/torbox-run.1.gz", "./usr/share/applications/dev.torbox.Torbox.desktop"] {
        assert!(during.contains(installed), "the positive control: {installed} was there");
    }
}

/// From wherever it is unpacked; and what `make uninstall` leaves of `make install`.
#[test]
fn the_tarball_runs_where_it_lies_and_uninstall_leaves_nothing() {
    require!("make", "tar", "objdump");
    let out = tempfile::tempdir().unwrap();
    debian::made("dist-built", out.path()).unwrap();
    output(Command::new("sha256sum").args(["--check", "--quiet", "--strict", "SHA256SUMS"]).current_dir(out.path()));
    let files = |dir: &Path| -> Vec<PathBuf> { output(Command::new("find").arg(dir).args(["(", "-type", "f", "-o", "-type", "l", ")"])).lines().map(PathBuf::from).collect() };
    let tarball = files(out.path()).into_iter().find(|path| path.extension().is_some_and(|end| end == "xz")).unwrap();
    let unpacked = out.path().join("anywhere");
    std::fs::create_dir(&unpacked).unwrap();
    output(Command::new("tar").arg("-xJf").arg(tarball).args(["--strip-components=1", "-C"]).arg(&unpacked));
    assert_eq!(output(Command::new(unpacked.join("bin/torbox")).arg("--version")), format!("torbox {}\n", env!("CARGO_PKG_VERSION")));
    assert!(unpacked.join("libexec/torbox/gate").is_file());
    let root = out.path().join("root");
    let make = |target: &str| output(Command::new("make").args(["--silent", "-C"]).arg(workspace()).arg(target).arg(format!("DESTDIR={}", root.display())));
    make("install-built");
    assert!(files(&root).len() > 30, "the positive control: it was installed");
    make("uninstall");
    assert_eq!(files(&root), Vec::<PathBuf>::new());
}

/// Homebrew's formula, read by Ruby with the few words of Homebrew's that it uses: its address and digest, and what it installs.
const READ_FORMULA: &str = r#"
require "fileutils"; require "pathname"
class Pathname
  def install(*sources) = sources.flatten.each { |source| mkpath; FileUtils.mv(source, self) }
end
class Formula
  SAID = {}
  def self.test(&) = nil
  def self.method_missing(name, *words) = SAID[name] = words.first
  { bin: "bin", libexec: "libexec", man1: "share/man/man1", bash_completion: "etc/bash_completion.d", zsh_completion: "share/zsh/site-functions",
    fish_completion: "share/fish/vendor_completions.d" }.each { |name, place| define_method(name) { Pathname(ARGV[1]) / place } }
end
load ARGV[0]
Torbox.new.install
puts Formula::SAID.values_at(:url, :sha256, :homepage)"#;

/// What winget asks of the three manifests of a package ("manifest schema", version 1.10.0), as far as these use it: prints what is wrong with each.
const JUDGE: &str = r#"
import jsonschema, sys, yaml
def text(pattern='.', most=2048): return {'type': 'string', 'pattern': pattern, 'maxLength': most}
def record(required, **properties): return {'type': 'object', 'additionalProperties': False, 'required': required, 'properties': properties}
address = text('^([Hh][Tt][Tt][Pp][Ss]?)://.+$')
def manifest(kind, required, **properties):
    common = {'PackageIdentifier': text(r'^[^.\s/]{1,32}(\.[^.\s/]{1,32}){1,7}$', 128), 'PackageVersion': text(r'^[^\\/:*?<>|@]+$', 128), 'ManifestType': {'const': kind}, 'ManifestVersion': {'const': '1.10.0'}}
    return record(list(common) + required, **common, **properties)
locale = text('^([a-zA-Z]{2,3}|[iI]-[a-zA-Z]+|[xX]-[a-zA-Z]{1,8})(-[a-zA-Z]{1,8})*$', 20)
nested = record(['RelativeFilePath'], RelativeFilePath=text(most=512), PortableCommandAlias=text(most=40))
installer = record(['Architecture', 'InstallerUrl', 'InstallerSha256'], Architecture={'enum': ['x86', 'x64', 'arm', 'arm64', 'neutral']}, InstallerUrl=address, InstallerSha256=text('^[A-Fa-f0-9]{64}$'))
schemas = [
    manifest("version", ["DefaultLocale"], DefaultLocale=locale),
    manifest("installer", ["Installers"], InstallerType={"const": "zip"}, NestedInstallerType={"const": "portable"}, NestedInstallerFiles={"type": "array", "items": nested, "minItems": 1},
             ArchiveBinariesDependOnPath={"type": "boolean"}, Installers={"type": "array", "items": installer, "minItems": 1}),
    manifest("defaultLocale", ["PackageLocale", "Publisher", "PackageName", "License", "ShortDescription"], PackageLocale=locale, Publisher=text(most=256), PackageName=text(most=256),
             PackageUrl=address, License=text(most=512), ShortDescription=text(most=256), InstallationNotes=text(most=10000)),
]
for schema, file in zip(schemas, sys.argv[1:]):
    for error in jsonschema.Draft7Validator(schema).iter_errors(yaml.safe_load(open(file))):
        print(error.json_path, error.message)"#;

/// What is wrong with the manifests in `dir`.
fn judged(dir: &Path) -> String {
    let files = ["", ".installer", ".locale.en-US"].map(|of| dir.join(format!("Torbox.Torbox{of}.yaml")));
    output(Command::new("/usr/bin/python3").args(["-c", JUDGE]).args(files))
}

/// Homebrew's and winget's manifests, filled for a tarball that was made and for a zip that was not: their digests, and nothing of the templates.
#[test]
fn the_manifests_say_what_was_made() {
    require!("make", "tar", "objdump", "ruby", "python3");
    let out = tempfile::tempdir().unwrap();
    debian::made("dist-built", out.path()).unwrap();
    let make = |homepage: &str| {
        let mut make = Command::new("make");
        make.args(["--silent", "-C"]).arg(workspace()).args(["manifests", "URL=https://dl.example/torbox", &format!("HOMEPAGE={homepage}")]).arg(format!("DIST={}", out.path().display()));
        make
    };
    assert!(!make("").stderr(Stdio::null()).status().unwrap().success(), "no release without an address");
    assert_eq!(output(&mut make("https://torbox.example/")), format!("{}\n", out.path().join("homebrew/torbox.rb").display()), "nothing was made for Windows");

    let name = format!("torbox-{}-x86_64-unknown-linux-gnu", env!("CARGO_PKG_VERSION"));
    let tarball = out.path().join(format!("{name}.tar.xz"));
    let sum = |path: &Path| output(Command::new("sha256sum").arg(path)).split(' ').next().unwrap().to_owned();
    output(Command::new("tar").arg("-xJf").arg(&tarball).arg("-C").arg(out.path()));
    let cellar = out.path().join("cellar");
    let formula = |file: &Path| output(Command::new("ruby").args(["-W:no-experimental", "-e", READ_FORMULA]).args([file, &cellar]).current_dir(out.path().join(&name)));
    let said = formula(&out.path().join("homebrew/torbox.rb"));
    assert_eq!(said, format!("https://dl.example/torbox/{name}.tar.xz\n{}\nhttps://torbox.example/\n", sum(&tarball)));
    assert_eq!(output(Command::new(cellar.join("bin/torbox")).arg("--version")), format!("torbox {}\n", env!("CARGO_PKG_VERSION")));
    for installed in ["libexec/torbox/init", "share/man/man1/torbox-run.1", "etc/bash_completion.d/torbox", "share/zsh/site-functions/_torbox", "share/fish/vendor_completions.d/torbox.fish"] {
        assert!(cellar.join(installed).is_file(), "{installed}");
    }

    let zip = out.path().join(format!("torbox-{}-x86_64-pc-windows-gnu.zip", env!("CARGO_PKG_VERSION")));
    std::fs::write(&zip, "in the place of one").unwrap();
    output(&mut make("https://torbox.example/"));
    assert_eq!(judged(&out.path().join("winget")), "");
    let installer = std::fs::read_to_string(out.path().join("winget/Torbox.Torbox.installer.yaml")).unwrap();
    for part in [sum(&zip), format!("https://dl.example/torbox/{}", zip.file_name().unwrap().display()), format!("'{}\\bin\\torbox.exe'", zip.file_stem().unwrap().display())] {
        assert!(installer.contains(&part) && !installer.contains('@') && !installer.contains("template"), "{part}: {installer}");
    }
    let unfilled = judged(&workspace().join("packaging/winget"));
    assert!(unfilled.contains("'@SHA256@' does not match") && unfilled.contains("'@URL@' does not match"), "a template is no manifest: {unfilled}");
}
