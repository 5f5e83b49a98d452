//! The whole way from signed packages to images, by two users and with everything different that must not matter.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use torbox_tests::boxed::{Installed, Who, kept_dir};
use torbox_tests::user::TestUser;
use torbox_tests::{process, require};

const IMAGES: [&str; 2] = ["torbox/firefox-esr", "torbox/tor"];

/// Name, digest and version of each image.
fn images(torbox: &Installed<'_>) -> Vec<[String; 3]> {
    let text = process::output(&mut torbox.command(None, ["images", "--json"])).unwrap();
    let images: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    let known = images.iter().filter(|image| IMAGES.iter().any(|name| image["name"] == *name));
    known.map(|image| ["name", "digest", "version"].map(|key| image[key].as_str().unwrap().to_owned())).collect()
}

/// Another directory, user, umask, locale and time zone, and one processor instead of all.
#[test]
fn g10_root_and_a_user_build_the_same_images() {
    require!("root", "taskset");
    let kept = Installed::new(Who::Root, &kept_dir().unwrap()).unwrap();
    kept.build_images().unwrap();
    let user = TestUser::create("reproducible").unwrap();
    let own = Installed::new(Who::User(&user), user.home()).unwrap();
    let cache = own.dir().join("cache");
    process::output(Command::new("cp").args(["-a", "--reflink=auto"]).arg(kept.dir().join("cache")).arg(&cache)).unwrap();
    let (uid, gid) = user.ids();
    process::output(Command::new("chown").arg("-R").arg(format!("{uid}:{gid}")).arg(&cache)).unwrap();
    let mut build = user.command(None, "/bin/sh");
    build.args(["-c", "umask 077; exec taskset --cpu-list 0 \"$0\" \"$@\""]).arg(own.program()).arg("--dir").arg(own.dir());
    build.args(["build", "--browser", "firefox-esr"]).env("TZ", "Asia/Tokyo").env("LANG", "de_DE.UTF-8").env("LC_ALL", "de_DE.UTF-8");
    process::output(&mut build).unwrap();
    assert_eq!(images(&own), images(&kept));
    assert_eq!(images(&own).len(), 2);
    images(&own).iter().for_each(|image| documented(&own, image));
}

/// Where the newest packages still are those of the lock that torbox carries, the layers made of them are those in the documentation.
fn documented(torbox: &Installed<'_>, [name, digest, _]: &[String; 3]) {
    let (store, source) = (torbox.dir().join("data/images"), Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let text = |path: PathBuf| fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let carried = text(source.join("images/locks").join(format!("{}-amd64.toml", name.trim_start_matches("torbox/"))));
    if text(store.join("locks").join(digest.replace("sha256:", "") + ".toml")) != carried {
        return eprintln!("{name}: the carried lock is older than the packages; its digests were not compared");
    }
    let blob = |digest: &str| -> serde_json::Value { serde_json::from_str(&text(store.join("blobs").join(digest.replace(':', "/")))).unwrap() };
    let config = blob(blob(digest)["config"]["digest"].as_str().unwrap());
    let layers = config["rootfs"]["diff_ids"].as_array().unwrap();
    let documentation = text(source.join("docs/measurements.md"));
    // The last layer holds torbox's own programs, which every compiler makes otherwise.
    for layer in &layers[..layers.len() - 1] {
        assert!(documentation.contains(layer.as_str().unwrap()), "{name}: docs/measurements.md does not have the layer {layer}");
    }
}
