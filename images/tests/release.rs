//! The Tor Project's releases, from a project of the test's own: what is taken, and every way in which it must not be.
//!
//! Every attack starts from a release that builds, which is the positive control.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::allow_attributes, missing_docs, unreachable_pub, dead_code, reason = "a test fails by panicking")]

mod support;

use sequoia_openpgp::types::ReasonForRevocation;
use std::{fs, os::unix::fs::MetadataExt, time::Duration};
use support::{Answer, Signatory, browser_archive, now, project::Project, socks::Proxy};
use torbox_images::{BuildRequest, Channel, Error, Mirror, Mirrors, Recipe, RecipeName, build_from, renew_from};

const DAY: Duration = Duration::from_secs(86400);
const SUMS: &str = "sha256sums-signed-build.txt";

/// Refused, with the error that `expected` recognises; nothing is in the store.
fn refused(project: &Project, expected: impl FnOnce(&Error) -> bool) {
    let error = project.build().map(|image| image.version).unwrap_err();
    assert!(expected(&error), "{error:?}");
    assert_eq!(project.bench.store().images().unwrap(), []);
}

fn of_version(project: &Project, file: &str) -> Vec<u8> {
    match project.server.files.lock().unwrap().get(&Project::at("15.0.24", file)) {
        Some(Answer::Whole(bytes)) => bytes.clone(),
        _ => panic!("{file} is not there"),
    }
}

#[test]
fn g10_the_current_release_is_taken_and_not_fetched_again() {
    let project = Project::new();
    project.publish("15.0.24");
    let image = project.build().unwrap();
    assert_eq!((image.version.as_str(), image.anonymous, image.signed.as_deref()), ("15.0.24", true, Some("2026-11-23T12:00:00Z")));
    let archive = Project::at("15.0.24", &Project::archive("15.0.24"));
    assert!(project.server.taken().contains(&archive));
    assert_eq!(project.build().unwrap(), image);
    assert_eq!(project.server.taken(), ["index/release/x86_64.json", &Project::at("15.0.24", SUMS), &Project::at("15.0.24", &format!("{SUMS}.asc"))]);
    project.publish("15.0.25");
    assert_eq!(project.build().unwrap().version, "15.0.25");
    // A release of another channel is another floor.
    project.publish("16.0a9");
    assert_eq!(project.build_as(&BuildRequest { channel: Channel::Alpha, ..project.request() }).unwrap().version, "16.0a9");
    assert_eq!(project.build().unwrap().version, "15.0.25");
}

#[test]
fn a_newer_browser_renews_its_layer_alone() {
    let project = Project::new();
    project.publish("15.0.24");
    let old = project.build().unwrap();
    let blob = |layer: &torbox_images::Digest| fs::metadata(project.bench.dir.join("store/blobs/sha256").join(layer.hex())).unwrap().ino();
    let blobs: Vec<_> = old.layers.iter().map(blob).collect();
    project.publish("15.0.25");
    let new = project.build().unwrap();
    let same: Vec<_> = old.layers.iter().zip(&blobs).zip(&new.layers).map(|((old, blob_of), new)| (old == new, *blob_of == blob(new))).collect();
    // Libraries, browser, torbox's programs: what is the same was not even written again.
    assert_eq!(same, [(true, true), (false, false), (true, true)]);
}

#[test]
fn g10_the_lock_of_a_release_builds_it_again_and_nothing_else() {
    let project = Project::new();
    project.publish("15.0.24");
    let image = project.build().unwrap();
    let lock = project.bench.dir.join("lock.toml");
    fs::copy(project.bench.store().lock_path(&image), &lock).unwrap();
    // Elsewhere, from nothing but the lock: no index is asked, and no signature is needed.
    let elsewhere = Project::new();
    elsewhere.publish("15.0.24");
    elsewhere.server.files.lock().unwrap().retain(|path, _| path.ends_with(".tar.xz"));
    elsewhere.repository.server.files.lock().unwrap().extend(project.repository.server.files.lock().unwrap().clone());
    let locked = BuildRequest { locked: Some(lock.into()), ..elsewhere.request() };
    // The address of the source differs here, and it is in the manifest.
    let again = elsewhere.build_as(&locked).unwrap();
    assert_eq!((again.config, again.layers), (image.config, image.layers.clone()));
    let other = Project::new();
    other.publish_file(Channel::Release, "15.0.24", &Project::archive("15.0.24"), &browser_archive("15.0.24", &[("tor-browser/more", 0o644, b"x")]), now());
    let error = other.build_as(&BuildRequest { locked: locked.locked, ..other.request() }).unwrap_err();
    assert!(matches!(error, Error::Checksum { .. }), "{error:?}");
    // Programs that changed need nothing of the network.
    project.server.files.lock().unwrap().clear();
    let request = project.request();
    fs::write(&request.programs.init, "init 2").unwrap();
    fs::remove_dir_all(project.bench.dir.join("store/layers")).unwrap();
    let renewed = renew_from(&project.bench.store(), &project.recipe(), &project.trust(), now(), &request, &mut support::Quiet).unwrap();
    assert_eq!((renewed.layers[..2] == image.layers[..2], renewed.digest == image.digest), (true, false));
}

#[test]
fn g10_what_is_altered_by_a_bit_is_refused() {
    let project = Project::new();
    project.publish("15.0.24");
    let archive = Project::archive("15.0.24");
    for file in [SUMS.to_owned(), format!("{SUMS}.asc"), archive.clone(), format!("{archive}.asc")] {
        let good = of_version(&project, &file);
        let mut altered = good.clone();
        let middle = altered.len() / 2;
        altered[middle] ^= 1;
        project.server.put(&Project::at("15.0.24", &file), altered);
        refused(&project, |error| matches!(error, Error::Signature { .. } | Error::Checksum { .. } | Error::UnknownKey { .. } | Error::DeadKey { .. }));
        project.server.put(&Project::at("15.0.24", &file), good);
    }
    project.build().unwrap();
}

#[test]
fn g10_a_signed_release_under_another_name_is_refused() {
    let project = Project::new();
    // Signed, and older: offered as if it were the newer version.
    project.publish("15.0.24");
    for (file, name) in [(SUMS, SUMS.to_owned()), (&format!("{SUMS}.asc"), format!("{SUMS}.asc")), (&Project::archive("15.0.24"), Project::archive("15.0.25"))] {
        project.server.put(&Project::at("15.0.25", &name), of_version(&project, file));
    }
    project.index(Channel::Release, "15.0.25", &format!("{}/{}", project.origin, Project::at("15.0.25", &Project::archive("15.0.25"))));
    refused(&project, |error| matches!(error, Error::ReleaseIndex { reason, .. } if reason.contains("does not list")));
    // Even the checksums may not say that an archive is another version than it says itself.
    project.publish_file(Channel::Release, "15.0.26", &Project::archive("15.0.26"), &browser_archive("15.0.24", &[]), now());
    refused(&project, |error| matches!(error, Error::Archive { reason, .. } if reason.contains("it is version 15.0.24")));
}

#[test]
fn g10_keys_that_must_not_sign_are_refused() {
    let (compromised, retired) = (ReasonForRevocation::KeyCompromised, ReasonForRevocation::KeyRetired);
    type Change = Box<dyn Fn(&Signatory) -> (Signatory, Signatory)>;
    let same = |change: fn(&Signatory) -> Signatory| -> Change { Box::new(move |key| { let key = change(key); (key.clone(), key) }) };
    let other = Signatory::new(None);
    let cases: Vec<(&str, Change)> = vec![
        ("UnknownKey", Box::new(|key| (key.clone(), Signatory::new(None)))),
        ("DeadKey", same(|_| Signatory::new(Some(399)))),
        ("DeadKey", Box::new(move |key| { let key = key.with_revoked_subkey(compromised); (key.clone(), key) })),
        ("DeadKey", Box::new(move |key| { let key = key.with_revoked_subkey(retired); (key.clone(), key) })),
        ("DeadKey", Box::new(move |key| { let key = key.revoked(compromised); (key.clone(), key) })),
        ("DeadKey", Box::new(move |key| { let key = key.revoked(retired); (key.clone(), key) })),
        ("DeadKey", same(Signatory::with_subkey_that_does_not_sign_back)),
        ("Key", Box::new(move |key| { let key = key.with_subkey_bound_by(&other); (key.clone(), key) })),
    ];
    for (number, (expected, change)) in cases.into_iter().enumerate() {
        let mut project = Project::new();
        (project.key, project.signer) = change(&project.key);
        // While the key still was alive, where it is not any more.
        let at = now() - 2 * DAY;
        project.publish_file(Channel::Release, "15.0.24", &Project::archive("15.0.24"), &browser_archive("15.0.24", &[]), at);
        refused(&project, |error| format!("{error:?}").contains(expected) && error.hint().unwrap().contains("--key FILE") || panic!("case {number}: {error:?}"));
    }
    // The control: a subkey that is bound as it should be.
    let mut project = Project::new();
    project.key = project.key.with_new_subkey();
    project.signer = project.key.clone();
    project.publish("15.0.24");
    project.build().unwrap();
}

#[test]
fn g10_a_newer_subkey_is_learnt_from_the_signers_server_and_kept() {
    let mut project = Project::new();
    project.signer = project.key.with_new_subkey();
    project.publish("15.0.24");
    refused(&project, |error| matches!(error, Error::UnknownKey { .. }) && error.hint().unwrap().contains("--key FILE"));
    project.server.put("certificate", project.signer.public());
    project.build().unwrap();
    project.server.files.lock().unwrap().remove("certificate");
    project.publish("15.0.25");
    project.build().unwrap();
    // What is kept is the certificate alone, without secrets.
    let kept = fs::read(project.bench.dir.join(format!("store/state/certificate-{}.pgp", project.key.fingerprint()))).unwrap();
    assert!(!String::from_utf8_lossy(&kept).contains("PRIVATE") && kept.len() < 10_000);
}

#[test]
fn g10_a_newer_subkey_is_learnt_from_a_file_and_kept() {
    let mut project = Project::new();
    project.signer = project.key.with_new_subkey();
    project.publish("15.0.24");
    let file = project.bench.dir.join("newer.asc");
    fs::write(&file, project.signer.public()).unwrap();
    project.build_as(&BuildRequest { key: Some(file), ..project.request() }).unwrap();
    project.publish("15.0.25");
    project.build().unwrap();
}

#[test]
fn g10_a_refresh_never_changes_whom_to_trust() {
    let mut project = Project::new();
    let other = Signatory::new(None);
    project.signer = other.clone();
    project.publish("15.0.24");
    // Another primary; the pinned primary with a key that another one bound.
    project.server.put("certificate", other.public());
    refused(&project, |error| matches!(error, Error::Certificate { reason, .. } if reason.contains(&other.fingerprint())));
    let file = project.bench.dir.join("other.asc");
    fs::write(&file, other.public()).unwrap();
    let error = project.build_as(&BuildRequest { key: Some(file), ..project.request() }).unwrap_err();
    assert!(matches!(error, Error::Certificate { .. }), "{error:?}");
    project.signer = project.key.with_subkey_bound_by(&other);
    project.publish("15.0.24");
    project.server.put("certificate", project.signer.public());
    refused(&project, |error| matches!(error, Error::UnknownKey { .. } | Error::DeadKey { .. }));
}

#[test]
fn g10_a_refresh_never_takes_back_a_revocation() {
    let mut project = Project::new();
    project.signer = project.key.with_new_subkey();
    let revoked = project.signer.with_revoked_subkey(ReasonForRevocation::KeyCompromised);
    project.publish("15.0.24");
    project.server.put("certificate", revoked.public());
    refused(&project, |error| matches!(error, Error::DeadKey { .. }));
    // The copy from before the revocation, from the server and from a file.
    project.server.put("certificate", project.signer.public());
    refused(&project, |error| matches!(error, Error::DeadKey { .. }));
    let file = project.bench.dir.join("before.asc");
    fs::write(&file, project.signer.public()).unwrap();
    let error = project.build_as(&BuildRequest { key: Some(file), ..project.request() }).unwrap_err();
    assert!(matches!(error, Error::DeadKey { .. }), "{error:?}");
}

#[test]
fn g10_an_older_release_is_refused_also_when_the_image_is_gone() {
    let project = Project::new();
    project.publish("15.0.9");
    project.publish("15.0.24");
    project.build().unwrap();
    fs::write(project.bench.dir.join("store/index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    project.publish("15.0.9");
    refused(&project, |error| matches!(error, Error::Downgrade { offered, installed, .. } if (offered.as_str(), installed.as_str()) == ("15.0.9", "15.0.24")));
    // The same by files.
    let archive = browser_archive("15.0.9", &[]);
    let files = project.bench.release(&archive, &project.signer.detached(&archive, now()));
    let error = project.build_as(&BuildRequest { release: Some(files), ..project.request() }).unwrap_err();
    assert!(matches!(error, Error::Downgrade { .. }), "{error:?}");
    // The same version with checksums from before.
    project.publish_file(Channel::Release, "15.0.24", &Project::archive("15.0.24"), &browser_archive("15.0.24", &[]), now() - DAY);
    refused(&project, |error| matches!(error, Error::RolledBack { .. }));
    project.publish("15.0.24");
    project.build().unwrap();
}

/// Packages may go back; the browser may not.
#[test]
fn g10_a_rollback_never_brings_an_older_browser() {
    let project = Project::new();
    let store = project.bench.store();
    let back = || store.roll_back(RecipeName::TorBrowser, torbox_images::Arch::Amd64);
    project.publish("15.0.24");
    project.build().unwrap();
    project.repository.publish_packages(&[("lib", "2.1", "")]);
    let newer = project.build().unwrap();
    assert_ne!(back().unwrap().digest, newer.digest);
    back().unwrap();
    project.publish("15.0.25");
    project.build().unwrap();
    assert!(matches!(back(), Err(Error::Downgrade { offered, .. }) if offered == "15.0.24"));
}

#[test]
fn g10_a_frozen_index_is_refused() {
    let project = Project::new();
    let publish = |days: u32| project.publish_file(Channel::Release, "15.0.24", &Project::archive("15.0.24"), &browser_archive("15.0.24", &[]), now() - days * DAY);
    publish(61);
    refused(&project, |error| matches!(error, Error::Stale { days: 61, .. }) && error.hint().unwrap().contains("--accept-old"));
    let accept = |day: &str| project.build_as(&BuildRequest { accept_old: Some(day.parse().unwrap()), ..project.request() });
    assert!(matches!(accept("2026-09-24"), Err(Error::Stale { .. })));
    accept("2026-09-23").unwrap();
    let archive = browser_archive("15.0.24", &[]);
    let files = project.bench.release(&archive, &project.signer.detached(&archive, now() - 61 * DAY));
    let elsewhere = Project { bench: support::Bench::new(), ..project };
    let error = elsewhere.build_as(&BuildRequest { release: Some(files), ..elsewhere.request() }).unwrap_err();
    assert!(matches!(error, Error::Stale { .. }), "{error:?}");
    elsewhere.publish_file(Channel::Release, "15.0.24", &Project::archive("15.0.24"), &browser_archive("15.0.24", &[]), now() - 60 * DAY);
    elsewhere.build().unwrap();
}

#[test]
fn g10_an_index_that_points_elsewhere_is_refused() {
    let project = Project::new();
    project.publish("15.0.24");
    let archive = Project::at("15.0.24", &Project::archive("15.0.24"));
    for elsewhere in ["https://elsewhere.example", "http://127.0.0.1:9", &format!("{}.example", project.origin), &format!("{}@elsewhere.example", project.origin)] {
        project.index(Channel::Release, "15.0.24", &format!("{elsewhere}/{archive}"));
        refused(&project, |error| matches!(error, Error::ReleaseIndex { .. }));
    }
    project.index(Channel::Release, "16.0a9", &format!("{}/{archive}", project.origin));
    refused(&project, |error| matches!(error, Error::ReleaseIndex { reason, .. } if reason.contains("channel")));
    project.index(Channel::Release, "15.0.24", &format!("{}/{archive}", project.origin));
    project.build().unwrap();
}

#[test]
fn g10_downloads_that_are_cut_grown_or_sent_elsewhere_are_refused_or_continued() {
    let project = Project::new();
    project.publish("15.0.24");
    let path = Project::at("15.0.24", &Project::archive("15.0.24"));
    let good = of_version(&project, &Project::archive("15.0.24"));
    project.server.put(&path, good[..good.len() / 2].to_vec());
    refused(&project, |error| matches!(error, Error::Checksum { .. }));
    project.server.put(&path, [good.as_slice(), b"x"].concat());
    refused(&project, |error| matches!(error, Error::Checksum { .. }));
    let elsewhere = support::Server::start();
    elsewhere.put("file", good.clone());
    project.server.files.lock().unwrap().insert(path.clone(), Answer::SendOn(format!("{}/file", elsewhere.url)));
    refused(&project, |error| matches!(error, Error::Redirect { .. }));
    assert_eq!(elsewhere.taken(), Vec::<String>::new());
    project.server.files.lock().unwrap().insert(path.clone(), Answer::CutAt(100, good));
    project.server.taken();
    project.build().unwrap();
    assert!(project.server.taken().contains(&format!("{path} from 100")));
}

/// Everything goes through the proxy, which alone knows the names; the onion service is asked where the host does not answer.
#[test]
fn g10_through_a_proxy_nothing_goes_past_it() {
    let mut project = Project::new();
    project.origin = "http://project.test".into();
    project.publish("15.0.24");
    let (own, debian) = (project.server.url.clone(), project.repository.server.url.clone());
    let proxy = Proxy::new(&[("project.test:80", &own), ("packages.test:80", &debian)]);
    let mirrors = Mirrors::Named(["debian", "debian-security"].map(|tree| Mirror::new(&format!("http://packages.test/{tree}")).unwrap()).into());
    let socket = project.bench.dir.join("socks");
    for via in [proxy.on_tcp(), proxy.on_unix(&socket)] {
        let bench = support::Bench::new();
        let request = BuildRequest { via: Some(via.parse().unwrap()), mirrors: mirrors.clone(), ..project.request() };
        let request = BuildRequest { cache: bench.dir.join("cache"), ..request };
        build_from(&bench.store(), &project.recipe(), &project.trust(), now(), &request, &mut support::Quiet).unwrap();
        let asked = std::mem::take(&mut *proxy.asked.lock().unwrap());
        assert!(asked.contains(&"project.test:80".into()) && asked.contains(&"packages.test:80".into()) && asked.len() > 5, "{asked:?}");
    }
    let onion = "http://abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvwx.onion";
    let proxy = Proxy::new(&[(&format!("{}:80", &onion[7..]), &own), ("packages.test:80", &debian)]);
    let mut recipe = project.recipe();
    recipe.tor_project.as_mut().unwrap().onions.insert(project.origin.clone(), onion.into());
    let request = BuildRequest { via: Some(proxy.on_tcp().parse().unwrap()), mirrors, ..project.request() };
    build_from(&project.bench.store(), &recipe, &project.trust(), now(), &request, &mut support::Quiet).unwrap();
    // Without a proxy the onion service's name is told to nobody.
    let fresh = support::Bench::new();
    let direct = BuildRequest { cache: fresh.dir.join("cache"), ..project.request() };
    recipe.tor_project.as_mut().unwrap().index = "http://127.0.0.1:9/index".into();
    recipe.tor_project.as_mut().unwrap().origins = vec!["http://127.0.0.1:9".into()];
    recipe.tor_project.as_mut().unwrap().onions.insert("http://127.0.0.1:9".into(), onion.into());
    let error = build_from(&fresh.store(), &recipe, &project.trust(), now(), &direct, &mut support::Quiet).unwrap_err();
    assert!(matches!(&error, Error::Fetch { url, .. } if url == "http://127.0.0.1:9/index"), "{error:?}");
}

#[test]
fn g10_a_proxy_that_is_not_there_is_an_error() {
    let project = Project::new();
    project.publish("15.0.24");
    let error = project.build_as(&BuildRequest { via: Some("socks5h://127.0.0.1:9".parse().unwrap()), ..project.request() }).unwrap_err();
    assert!(matches!(error, Error::Fetch { .. }), "{error:?}");
    assert_eq!((project.server.taken(), project.repository.server.taken()), (vec![], vec![]));
}

#[test]
fn g10_tor_is_taken_from_the_same_release() {
    let project = Project::new();
    let files: [(&str, u32, &[u8]); 5] = [("tor/tor", 0o755, b"tor"), ("tor/libx.so", 0o644, b"lib"), ("tor/pluggable_transports/lyrebird", 0o755, b"pt"), ("data/geoip", 0o644, b"geo"), ("debug/tor", 0o644, b"left out")];
    let name = "tor-expert-bundle-linux-x86_64-15.0.24.tar.gz";
    project.publish_file(Channel::Release, "15.0.24", name, &support::gzip(&support::tar_of(&files)), now());
    let mut recipe = Recipe::embedded(RecipeName::TorBundle).unwrap();
    recipe.packages = vec!["lib".into()];
    recipe.exclude = Vec::new();
    recipe.files.libraries = Vec::new();
    recipe.files.data = vec!["/usr/share/lib/**".into()];
    recipe.files.generate.retain(|generated| *generated != torbox_images::Generated::TimeZone);
    let places = recipe.tor_project.unwrap().places;
    recipe.tor_project = project.recipe().tor_project.map(|own| torbox_images::TorProject { places, archive: "tor-expert-bundle-linux-{machine}-{version}.tar.gz".into(), ..own });
    let request = BuildRequest { recipe: RecipeName::TorBundle, ..project.request() };
    let image = build_from(&project.bench.store(), &recipe, &project.trust(), now(), &request, &mut support::Quiet).unwrap();
    assert_eq!((image.version.as_str(), image.entrypoint[0].as_str(), image.anonymous), ("15.0.24", "/usr/bin/tor", true));
    let root = project.bench.store().rootfs(&image, &mut support::Quiet).unwrap();
    let text = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
    assert_eq!((text("usr/bin/tor"), text("usr/lib/x86_64-linux-gnu/libx.so"), text("usr/libexec/tor/lyrebird"), text("usr/share/tor/geoip")), ("tor".into(), "lib".into(), "pt".into(), "geo".into()));
    assert!(!root.path().join("debug").exists());
}
