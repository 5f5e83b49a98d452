//! Attacks on what images are made from: each must be refused with an error that names the thing, and leave the store as it was.
//!
//! Every attack starts from an archive that builds, which is the positive control.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::allow_attributes, missing_docs, unreachable_pub, dead_code, reason = "a test fails by panicking")]

mod support;

use std::{fs, time::Duration};
use support::{Answer, Bench, IN_RELEASE, Repository, SERVER_PATH, Signatory, browser_archive, browser_recipe, now, sha256, tar_of, xz};
use torbox_images::{Error, ReleaseFiles, Trust};

/// Refused, with the error that `expected` recognises; nothing is in the store.
fn refused(bench: &Bench, repository: &Repository, expected: impl FnOnce(&Error) -> bool) {
    let error = bench.build(repository).map(|image| image.digest).unwrap_err();
    assert!(expected(&error), "{error:?}");
    assert_eq!(bench.store().images().unwrap(), []);
}

#[test]
fn g10_a_good_archive_builds() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let image = bench.build(&repository).unwrap();
    assert_eq!((image.version.as_str(), image.anonymous, image.recipe.as_str()), ("1.0-1", true, "tor"));
    assert_eq!(image.entrypoint, ["/usr/bin/server"]);
    assert_eq!(image.created, "2023-11-14T22:13:20Z");
}

#[test]
fn g10_an_expired_index_is_refused() {
    let bench = Bench::new();
    let mut repository = Repository::new();
    repository.valid_until = "Sun, 22 Nov 2026 00:53:03 UTC";
    repository.publish("1.0-1");
    refused(&bench, &repository, |error| matches!(error, Error::Expired { suite, .. } if suite == "test") && error.hint().unwrap().contains("out of date"));
}

#[test]
fn g10_an_index_signed_by_another_key_is_refused() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let other = Signatory::new(None);
    repository.sign(&repository.packages(), &other);
    refused(&bench, &repository, |error| matches!(error, Error::UnknownKey { primary, .. } if *primary == repository.key.fingerprint()));
}

#[test]
fn g10_an_index_signed_by_an_expired_key_is_refused() {
    let bench = Bench::new();
    let mut repository = Repository::new();
    // Alive when it signed, dead now.
    repository.key = Signatory::new(Some(399));
    let past = now() - Duration::from_secs(3 * 86400);
    let text = "Codename: test\nDate: Sat, 21 Nov 2026 00:53:03 UTC\nSHA256:\n";
    repository.server.put(IN_RELEASE, repository.key.clearsign_at(text, past));
    refused(&bench, &repository, |error| matches!(error, Error::DeadKey { .. }));
}

#[test]
fn g10_an_altered_index_is_refused() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let Answer::Whole(signed) = repository.server.files.lock().unwrap()[IN_RELEASE].clone() else { panic!() };
    let text = String::from_utf8(signed).unwrap();
    for (from, to) in [("Codename: test", "Codename: tesT"), ("main/binary-amd64", "main/binary-amd65"), ("Valid-Until: Sat, 28", "Valid-Until: Sat, 29")] {
        assert!(text.contains(from));
        repository.server.put(IN_RELEASE, text.replace(from, to).into_bytes());
        refused(&bench, &repository, |error| matches!(error, Error::Signature { .. }));
    }
    // Text outside the signature is not read: an unsigned stanza in front of the signed one changes nothing but the verdict.
    repository.server.put(IN_RELEASE, b"Codename: test\n".to_vec());
    refused(&bench, &repository, |error| matches!(error, Error::Signature { .. }));
    repository.server.put(IN_RELEASE, text.into_bytes());
    bench.build(&repository).unwrap();
}

#[test]
fn g10_another_suites_index_is_refused() {
    let bench = Bench::new();
    let mut repository = Repository::new();
    repository.codename = "older".into();
    repository.publish("1.0-1");
    refused(&bench, &repository, |error| matches!(error, Error::Release { reason, .. } if reason.contains("older")));
}

#[test]
fn g10_an_older_index_than_one_seen_is_refused() {
    let bench = Bench::new();
    let mut repository = Repository::new();
    bench.build(&repository).unwrap();
    repository.date = "Fri, 20 Nov 2026 00:53:03 UTC";
    repository.publish("1.0-1");
    let error = bench.build(&repository).unwrap_err();
    assert!(matches!(error, Error::RolledBack { .. }), "{error:?}");
}

#[test]
fn g10_a_package_with_a_wrong_checksum_is_refused_by_name() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let Answer::Whole(good) = repository.server.files.lock().unwrap()[SERVER_PATH].clone() else { panic!() };
    let mut altered = good.clone();
    altered[100] ^= 1;
    repository.server.put(SERVER_PATH, altered);
    refused(&bench, &repository, |error| matches!(error, Error::Checksum { what, .. } if what == "package server 1.0-1"));
    for wrong in [good[..good.len() - 1].to_vec(), [good.as_slice(), b"x"].concat()] {
        repository.server.put(SERVER_PATH, wrong);
        refused(&bench, &repository, |error| matches!(error, Error::Length { .. } | Error::Checksum { .. } | Error::Fetch { .. }));
    }
    repository.server.put(SERVER_PATH, good);
    bench.build(&repository).unwrap();
}

#[test]
fn g10_an_altered_index_of_packages_is_refused() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let path = repository.server.files.lock().unwrap().keys().find(|path| path.contains("by-hash")).unwrap().clone();
    let mut altered = repository.packages();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    repository.server.put(&path, altered);
    refused(&bench, &repository, |error| matches!(error, Error::Checksum { .. } | Error::Fetch { .. }));
}

/// Signed all the same: two files under one name and version would make the choice depend on their order.
#[test]
fn g10_conflicting_stanzas_are_refused() {
    let (bench, repository) = (Bench::new(), Repository::new());
    repository.publish_packages(&[("server", "1", ""), ("lib", "2", "")]);
    bench.build(&repository).unwrap();
    let fresh = Bench::new();
    repository.publish_packages_as(&[("server", "1", "", "usr/bin/server"), ("lib", "2", "", "usr/share/lib/a"), ("server", "1", "", "usr/bin/other")]);
    refused(&fresh, &repository, |error| matches!(error, Error::Package { package, reason } if package == "server" && reason.contains("two different files")));
}

#[test]
fn g10_an_unreachable_mirror_is_an_error_with_a_hint_and_the_next_is_tried() {
    let (bench, repository) = (Bench::new(), Repository::new());
    // A port that was free a moment ago, on loopback.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = format!("http://{free}");
    let error = bench.build_with(&repository.trust(), &bench.request(&dead)).unwrap_err();
    assert!(matches!(&error, Error::Fetch { url, .. } if url.starts_with(&dead)), "{error:?}");
    assert!(error.hint().unwrap().contains("--mirror"));
    let mut request = bench.request(&dead);
    let both = [dead, repository.server.url.clone()].map(|url| torbox_images::Mirror::new(&format!("{url}/debian")).unwrap());
    request.mirrors = torbox_images::Mirrors::Named(both.into());
    bench.build_with(&repository.trust(), &request).unwrap();
}

#[test]
fn g10_an_interrupted_download_is_continued() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let path = "debian/pool/lib.deb";
    let Answer::Whole(bytes) = repository.server.files.lock().unwrap()[path].clone() else { panic!() };
    repository.server.files.lock().unwrap().insert(path.into(), Answer::CutAt(1000, bytes));
    bench.build(&repository).unwrap();
    assert!(repository.server.taken().contains(&format!("{path} from 1000")));
}

struct BrowserCase {
    bench: Bench,
    repository: Repository,
    key: Signatory,
    trust: Trust,
}

impl BrowserCase {
    fn new() -> Self {
        let (repository, key) = (Repository::new(), Signatory::new(None));
        let mut trust = repository.trust();
        trust.certificates.push(("browser.asc".into(), key.public()));
        Self { bench: Bench::new(), repository, key, trust }
    }

    fn build(&self, files: Option<ReleaseFiles>) -> Result<torbox_images::Image, Error> {
        self.bench.build_browser(&self.repository, &browser_recipe(&self.key.fingerprint()), &self.trust, files)
    }

    fn signed(&self, archive: &[u8]) -> ReleaseFiles {
        self.bench.release(archive, &self.key.detached(archive, now()))
    }
}

#[test]
fn g10_a_signed_release_is_taken_and_an_older_one_never_replaces_it() {
    let case = BrowserCase::new();
    let image = case.build(Some(case.signed(&browser_archive("15.0.9", &[])))).unwrap();
    assert_eq!((image.version.as_str(), image.anonymous, image.name.as_str()), ("15.0.9", true, "torbox/tor-browser"));
    let newer = case.build(Some(case.signed(&browser_archive("15.0.24", &[])))).unwrap();
    assert_eq!(newer.version, "15.0.24");
    let error = case.build(Some(case.signed(&browser_archive("15.0.9", &[])))).unwrap_err();
    assert!(matches!(&error, Error::Downgrade { offered, installed, .. } if (offered.as_str(), installed.as_str()) == ("15.0.9", "15.0.24")), "{error:?}");
    assert_eq!(case.bench.store().image(&newer.name, torbox_images::Arch::Amd64).unwrap().unwrap().version, "15.0.24");
}

#[test]
fn g10_a_release_with_a_wrong_signature_is_refused() {
    let case = BrowserCase::new();
    let archive = browser_archive("15.0", &[]);
    let refuse = |files: ReleaseFiles, expected: fn(&Error) -> bool| {
        let error = case.build(Some(files)).unwrap_err();
        assert!(expected(&error), "{error:?}");
        assert_eq!(case.bench.store().images().unwrap(), []);
    };
    let other = Signatory::new(None);
    refuse(case.bench.release(&archive, &other.detached(&archive, now())), |error| {
        matches!(error, Error::UnknownKey { .. }) && error.hint().unwrap().contains("--key FILE")
    });
    let mut altered = archive.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    refuse(case.bench.release(&altered, &case.key.detached(&archive, now())), |error| matches!(error, Error::Signature { .. }));
    refuse(case.bench.release(&archive, b""), |error| matches!(error, Error::Signature { .. }));
    refuse(case.bench.release(&archive, b"-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"), |error| matches!(error, Error::Signature { .. }));
    case.build(Some(case.signed(&archive))).unwrap();
}

/// The real sums file of 15.0.24 is signed by a subkey that the certificate torbox carries does not hold.
#[test]
fn g10_a_newer_signing_subkey_is_a_clear_error() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let mut trust = Trust::embedded().unwrap();
    trust.suites = repository.trust().suites;
    trust.certificates.extend(repository.trust().certificates);
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/15.0.24-sha256sums-signed-build.txt");
    let files = ReleaseFiles { signature: data.with_extension("txt.asc"), tarball: data };
    let recipe = browser_recipe("EF6E286DDA85EA2A4BA7DE684E2C6E8793298290");
    let error = bench.build_browser(&repository, &recipe, &trust, Some(files)).unwrap_err();
    assert!(matches!(&error, Error::UnknownKey { key, .. } if key == "022DA248432D2A0E0F54E65E316C1FACD62D07D9"), "{error:?}");
    assert!(error.hint().unwrap().contains("--key FILE"));
}

#[test]
fn g10_a_signed_archive_is_still_read_strictly() {
    let case = BrowserCase::new();
    let cases: [(&str, Vec<u8>); 5] = [
        ("is in no place", browser_archive("15.0", &[("etc/passwd", 0o644, b"x")])),
        ("is setuid", browser_archive("15.0", &[("tor-browser/Browser/su", 0o4755, b"x")])),
        ("is there twice", browser_archive("15.0", &[("tor-browser/Browser/firefox.real", 0o755, b"x")])),
        ("does not hold", xz(&tar_of(&[("tor-browser/Browser/tbb_version.json", 0o644, b"{\"version\":\"15.0\"}")]))),
        ("does not tell its version", xz(&tar_of(&[("tor-browser/Browser/firefox.real", 0o755, b"x")]))),
    ];
    for (expected, archive) in cases {
        let error = case.build(Some(case.signed(&archive))).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert_eq!(case.bench.store().images().unwrap(), []);
    }
}

#[test]
fn g10_a_lock_pins_what_is_built() {
    let (bench, repository) = (Bench::new(), Repository::new());
    let image = bench.build(&repository).unwrap();
    let lock = bench.dir.join("lock.toml");
    fs::copy(bench.store().lock_path(&image), &lock).unwrap();
    assert!(fs::read_to_string(&lock).unwrap().contains(&sha256(&fs::read(bench.dir.join("cache/sha256").join(cached_server(&repository))).unwrap())));
    let fresh = Bench::new();
    let locked = torbox_images::BuildRequest { locked: Some(lock.into()), ..fresh.request(&repository.server.url) };
    assert_eq!(fresh.build_with(&repository.trust(), &locked).unwrap().digest, image.digest);
    repository.publish("1.0-2");
    assert_ne!(bench.build(&repository).unwrap().digest, image.digest);
    // The locked version is gone from this mirror: an error that names it, not another version.
    let gone = Bench::new();
    let error = gone.build_with(&repository.trust(), &torbox_images::BuildRequest { cache: gone.dir.join("cache"), programs: gone.request("http://x").programs, ..locked }).unwrap_err();
    assert!(matches!(&error, Error::Checksum { what, .. } | Error::Length { url: what, .. } if what.contains("server")), "{error:?}");
}

fn cached_server(repository: &Repository) -> String {
    let Answer::Whole(bytes) = repository.server.files.lock().unwrap()[SERVER_PATH].clone() else { panic!() };
    sha256(&bytes)
}
